package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// What one produce request may name. Kafka has no such limits, but no client comes near them.
const (
	maxProduceTopics     = 10_000
	maxProducePartitions = 10_000
	// maxProduceTags is for tags of newer clients; none is known.
	maxProduceTags = 10_000
)

// errCutOff says that a body ends before what it claims to hold, errTags that a list of tags would be longer than all that follows.
var (
	errCutOff = errors.New("the body is cut off, or a length in it is wrong")
	errTags   = errors.New("the body has fewer tags than it says")
)

// skimProduce looks through the body of a produce request before anything is made of it: every length lies inside the body, and there are not more
// topics, partitions and tags than a request may have. It takes no memory.
//
//	transactional id │ acks  │ timeout │ topics                                     │ tags (9+)
//	nullable string  │ int16 │ int32   │ each: name (to 12) or id (13), partitions, │
//	(3+)             │       │         │       tags (9+)                            │
//	                                     partition: int32, nullable bytes, tags (9+)
//
// (Kafka's protocol guide; strings, bytes and lists are compact from version 9 on.)
func skimProduce(body []byte, version int16) error {
	s := skimmer{rest: body, flexible: version >= 9}
	if version >= 3 {
		s.text(true)
	}
	s.skip(2 + 4)
	topics, partitions := s.count(), 0
	if topics > maxProduceTopics {
		return fmt.Errorf("it names %d topics; %d are the most", topics, maxProduceTopics)
	}
	for range topics {
		if version >= 13 {
			s.skip(16)
		} else {
			s.text(false)
		}
		n := s.count()
		if partitions += n; partitions > maxProducePartitions {
			return fmt.Errorf("it names %d partitions or more; %d are the most", partitions, maxProducePartitions)
		}
		for range n {
			s.skip(4)
			s.blob()
			s.tags()
		}
		s.tags()
	}
	s.tags()
	switch {
	case s.fewTags:
		return errTags
	case s.cutOff:
		return errCutOff
	case s.tagged > maxProduceTags:
		return fmt.Errorf("it has %d tags; %d are the most", s.tagged, maxProduceTags)
	}
	return nil
}

// skimmer walks over encoded values. After the first that does not fit everything is empty, and cutOff says so.
type skimmer struct {
	rest     []byte
	flexible bool
	cutOff   bool
	fewTags  bool
	tagged   int // how many tags have gone by
}

func (s *skimmer) skip(n int) {
	if n < 0 || n > len(s.rest) {
		s.cutOff, s.rest = true, nil
		return
	}
	s.rest = s.rest[n:]
}

// number reads the length of something: a fixed one of so many bytes, or, in flexible versions, a varint of one more. Negative ones are for what
// is null.
func (s *skimmer) number(size int) int {
	if s.flexible {
		return int(s.varint()) - 1
	}
	b := s.rest
	s.skip(size)
	switch {
	case s.cutOff:
		return 0
	case size == 2:
		return int(int16(binary.BigEndian.Uint16(b)))
	default:
		return int(int32(binary.BigEndian.Uint32(b)))
	}
}

// varint reads an unsigned one of at most 32 bits.
func (s *skimmer) varint() uint32 {
	x, n := binary.Uvarint(s.rest[:min(len(s.rest), 5)])
	if n <= 0 || x > math.MaxUint32 {
		s.cutOff, s.rest = true, nil
		return 0
	}
	s.rest = s.rest[n:]
	return uint32(x)
}

// text skips a string.
func (s *skimmer) text(nullable bool) {
	if n := s.number(2); n >= 0 || !nullable {
		s.skip(n)
	}
}

// blob skips bytes that may be null.
func (s *skimmer) blob() {
	if n := s.number(4); n > 0 {
		s.skip(n)
	}
}

// count reads how many elements a list has. Each takes a byte at least, so there are no more than bytes.
func (s *skimmer) count() int {
	var n int
	if s.flexible {
		n = int(int32(s.varint()) - 1) // as kmsg does
	} else {
		n = s.number(4)
	}
	if n > len(s.rest) {
		s.cutOff, s.rest = true, nil
		return 0
	}
	return max(n, 0)
}

// tags skips the tags at the end of a struct.
func (s *skimmer) tags() {
	if !s.flexible {
		return
	}
	n := int64(s.varint())
	if n > int64(len(s.rest)/2) { // each takes two bytes at least
		s.fewTags, s.cutOff, s.rest = true, true, nil
		return
	}
	s.tagged += int(n)
	for range n {
		s.varint()
		s.skip(int(s.varint()))
	}
}
