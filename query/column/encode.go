package column

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrFormat marks a stored schema that cannot be read: damaged, or of a later release.
var ErrFormat = errors.New("not a schema of columns")

// A stored schema. Integers are the varints of Protocol Buffers:
//
//	format u8 = 1 · version uvarint · fields
//	fields: count uvarint, and for each in order:
//	  key (uvarint length, bytes) · suffix uvarint · flags u8 (1: overridden) · partition varint · offset varint · type
//	type: kind u8, then of a STRUCT its fields, and of a LIST the type of its elements
//
// The name of a column is its key, with _<suffix> behind it unless the suffix is 0.
const (
	schemaFormat   = 1
	flagOverridden = 1
	// maxSchemaBytes caps a value: what MaxFields and MaxOverrides columns of the longest keys take.
	maxSchemaBytes = 400 << 10
	minFieldBytes  = 7
)

// Encode writes the schema as it is stored. Its Version is in it, so no two versions of a topic have the same bytes.
func (s *Schema) Encode() []byte {
	out := []byte{schemaFormat}
	out = binary.AppendUvarint(out, uint64(s.Version))
	return appendFields(out, s.Fields)
}

func appendFields(out []byte, fields []Field) []byte {
	out = binary.AppendUvarint(out, uint64(len(fields)))
	for _, f := range fields {
		out = binary.AppendUvarint(out, uint64(len(f.Key)))
		out = append(out, f.Key...)
		out = binary.AppendUvarint(out, uint64(suffixOf(f)))
		var flags byte
		if f.Overridden {
			flags = flagOverridden
		}
		out = append(out, flags)
		out = binary.AppendVarint(out, int64(f.Partition))
		out = binary.AppendVarint(out, f.Offset)
		out = appendType(out, f.Type)
	}
	return out
}

func appendType(out []byte, t Type) []byte {
	out = append(out, byte(t.Kind))
	switch t.Kind {
	case Struct:
		return appendFields(out, t.Fields)
	case List:
		return appendType(out, *t.Elem)
	default:
		return out
	}
}

func suffixOf(f Field) int {
	n := 0
	for _, c := range []byte(f.Name[min(len(f.Key)+1, len(f.Name)):]) {
		n = 10*n + int(c-'0')
	}
	return n
}

// Decode reads what Encode wrote. Errors are ErrFormat. It believes no count before what is left could hold that many.
func Decode(value []byte) (*Schema, error) {
	if len(value) > maxSchemaBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", ErrFormat, len(value), maxSchemaBytes)
	}
	if len(value) == 0 || value[0] != schemaFormat {
		return nil, fmt.Errorf("%w: its format is none that this release reads", ErrFormat)
	}
	d := reader{rest: value[1:]}
	version := int64(d.uint(math.MaxInt64))
	fields := d.fields(1)
	switch {
	case d.err != nil:
		return nil, d.err
	case len(d.rest) > 0:
		return nil, fmt.Errorf("%w: %d bytes behind its end", ErrFormat, len(d.rest))
	case version == 0 && len(fields) > 0:
		return nil, fmt.Errorf("%w: version 0 has %d columns", ErrFormat, len(fields))
	}
	return newSchema(version, fields), nil
}

// reader takes a stored schema apart. After the first failure every call gives zero.
type reader struct {
	rest  []byte
	named int
	err   error
}

func (d *reader) failf(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
	}
	d.rest = nil
}

func (d *reader) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit {
		d.failf("a number is cut or above %d", limit)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *reader) int() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.failf("a number is cut")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *reader) bytes(n int) []byte {
	if n > len(d.rest) {
		d.failf("it ends too early")
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *reader) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *reader) fields(depth int) []Field {
	count := int(d.uint(uint64(len(d.rest) / minFieldBytes)))
	if d.named += count; d.named > MaxFields+MaxOverrides {
		d.failf("more than %d fields", MaxFields+MaxOverrides)
	}
	if d.err != nil || count == 0 {
		return nil
	}
	out := make([]Field, 0, count)
	free, keys := newNames(depth == 1), make(map[string]struct{}, count)
	for range count {
		key := string(d.bytes(int(d.uint(MaxKey))))
		f := Field{Key: key, Name: suffixed(key, int(d.uint(MaxFields+MaxOverrides+uint64(len(builtins)))))}
		flags := d.byte()
		f.Overridden = flags == flagOverridden
		partition := d.int()
		f.Partition, f.Offset = int32(partition), d.int()
		f.Type = d.typ(depth)
		_, twice := keys[key]
		keys[key] = struct{}{}
		switch {
		case d.err != nil:
		case !validKey(key) || twice || !free.take(f.Name):
			d.failf("the key %q or its column %q is not allowed or there twice", key, f.Name)
		case flags > flagOverridden || f.Overridden && (depth > 1 || f.Type.Kind >= Struct):
			d.failf("the flags of %q are %d", key, flags)
		case partition < -1 || partition > math.MaxInt32 || f.Offset < -1:
			d.failf("%q was first seen at offset %d of partition %d", key, f.Offset, partition)
		}
		if d.err != nil {
			return nil
		}
		out = append(out, f)
	}
	return out
}

func (d *reader) typ(depth int) Type {
	t := Type{Kind: Kind(d.byte())}
	switch {
	case d.err != nil:
	case depth > MaxDepth:
		d.failf("it is deeper than %d", MaxDepth)
	case t.Kind < Boolean || t.Kind > List:
		d.failf("there is no type %d", t.Kind)
	case t.Kind == Struct:
		if t.Fields = d.fields(depth + 1); len(t.Fields) == 0 {
			d.failf("a STRUCT without fields")
		}
	case t.Kind == List:
		elem := d.typ(depth + 1)
		t.Elem = &elem
	}
	return t
}
