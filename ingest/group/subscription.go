package group

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// sameTopics says whether two metadata of a protocol ask for the same topics. For protocol types other than "consumer", and
// for what cannot be read, they must be equal.
func sameTopics(protocolType string, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if protocolType != "consumer" {
		return false
	}
	topicsA, ok := consumerTopics(a)
	topicsB, okB := consumerTopics(b)
	return ok && okB && slices.Equal(topicsA, topicsB)
}

// consumerTopics reads the sorted topics of a consumer's metadata, which begins, in any version, with
//
//	int16 version │ int32 topics │ topics × (int16 length │ name)
func consumerTopics(metadata []byte) (topics []string, ok bool) {
	if len(metadata) < 6 {
		return nil, false
	}
	count := int(int32(binary.BigEndian.Uint32(metadata[2:])))
	rest := metadata[6:]
	if count < 0 || count > len(rest)/2 {
		return nil, false
	}
	topics = make([]string, 0, count)
	for range count {
		if len(rest) < 2 {
			return nil, false
		}
		length := int(int16(binary.BigEndian.Uint16(rest)))
		if length < 0 || length > len(rest)-2 {
			return nil, false
		}
		topics = append(topics, string(rest[2:2+length]))
		rest = rest[2+length:]
	}
	slices.Sort(topics)
	return topics, true
}
