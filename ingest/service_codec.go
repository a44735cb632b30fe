package ingest

import (
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// countedCodecs decode messages of at most so many elements: entries of lists, at any depth. Two bytes can be an element that takes two hundred in
// memory, so a limit in bytes alone would let a request of 4 MiB take hundreds; these count before anything is taken. They encode as Connect's own
// codecs do.
func countedCodecs(most int) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(binaryCodec{most}), connect.WithCodec(jsonCodec{"json", most}), connect.WithCodec(jsonCodec{"json; charset=utf-8", most}),
	)
}

// jsonCommas is how many commas of JSON stand for an element: an offset of a commit has seven fields.
const jsonCommas = 8

func tooManyElements(most int) error {
	return Errorf(ReasonTooLarge, "the message has far more than %d elements: send several", most)
}

// protoMessage is what Connect hands to codecs.
func protoMessage(message any) proto.Message {
	m, ok := message.(proto.Message)
	if !ok {
		panic(fmt.Sprintf("ingest: a message of type %T", message))
	}
	return m
}

type binaryCodec struct{ most int }

func (binaryCodec) Name() string { return "proto" }

func (binaryCodec) IsBinary() bool { return true }

func (binaryCodec) Marshal(message any) ([]byte, error) { return proto.Marshal(protoMessage(message)) }

func (binaryCodec) MarshalAppend(to []byte, message any) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(to, protoMessage(message))
}

func (binaryCodec) MarshalStable(message any) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(protoMessage(message))
}

func (c binaryCodec) Unmarshal(data []byte, message any) error {
	m := protoMessage(message)
	if countElements(data, m.ProtoReflect().Descriptor(), c.most) > c.most {
		return tooManyElements(c.most)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("decode %T: %w", message, err)
	}
	return nil
}

// countElements counts the elements of lists in a message, and stops above most. What is malformed it leaves to the decoder.
func countElements(data []byte, m protoreflect.MessageDescriptor, most int) int {
	count := 0
	for len(data) > 0 && count <= most {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return count
		}
		length := protowire.ConsumeFieldValue(number, kind, data[tag:])
		if length < 0 {
			return count
		}
		value := data[tag : tag+length]
		data = data[tag+length:]
		field := m.Fields().ByNumber(number)
		if field == nil {
			continue
		}
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		switch {
		case field.Message() != nil && kind == protowire.BytesType:
			if field.IsList() || field.IsMap() {
				count++
			}
			count += countElements(value, field.Message(), most-count)
		case field.IsList() && kind == protowire.BytesType && field.Kind() != protoreflect.StringKind && field.Kind() != protoreflect.BytesKind:
			count += packedElements(value, field.Kind())
		case field.IsList():
			count++
		}
	}
	return count
}

// packedElements counts numbers that stand one behind the other.
func packedElements(packed []byte, kind protoreflect.Kind) int {
	switch kind {
	case protoreflect.DoubleKind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return len(packed) / 8
	case protoreflect.FloatKind, protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return len(packed) / 4
	default: // a varint ends with a byte below 0x80
		count := 0
		for _, b := range packed {
			if b < 0x80 {
				count++
			}
		}
		return count
	}
}

type jsonCodec struct {
	name string
	most int
}

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) IsBinary() bool { return false }

func (jsonCodec) Marshal(message any) ([]byte, error) {
	return protojson.Marshal(protoMessage(message))
}

func (jsonCodec) MarshalAppend(to []byte, message any) ([]byte, error) {
	return protojson.MarshalOptions{}.MarshalAppend(to, protoMessage(message))
}

func (c jsonCodec) Unmarshal(data []byte, message any) error {
	if len(data) == 0 {
		return Errorf(ReasonInvalidRequest, "an empty message is no JSON")
	}
	if jsonSeparators(data, jsonCommas*c.most) > jsonCommas*c.most {
		return tooManyElements(c.most)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, protoMessage(message)); err != nil {
		return fmt.Errorf("decode %T: %w", message, err)
	}
	return nil
}

// jsonSeparators counts the commas outside of texts, and stops above most.
func jsonSeparators(data []byte, most int) int {
	count, text := 0, false
	for i := 0; i < len(data) && count <= most; i++ {
		switch {
		case data[i] == '"':
			text = !text
		case text && data[i] == '\\':
			i++
		case !text && data[i] == ',':
			count++
		}
	}
	return count
}
