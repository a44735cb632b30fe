package record

import (
	"fmt"
	"slices"
)

// minRecord is the length of the shortest record: one byte for each of its seven fields.
const minRecord = 7

// Validate checks that p is exactly one well-formed batch as a producer may send it, and returns it as a Batch that shares p's
// bytes: the length field says len(p), magic 2, the checksum is right, the codec is known, no transactional, control or log-append-time
// batch, last offset delta = count-1, offset deltas 0, 1, 2, …, every length inside its bounds, nothing left over, header keys in UTF-8, the
// greatest timestamp as stated, and sizes within l. Base offset and leader epoch may be anything: Stamp sets them.
//
// It takes no memory when the batch is not compressed, and a bounded amount when it is (see the package comment).
// Errors: ErrCorrupt, ErrInvalid, ErrTooLarge, ErrCodec.
func Validate(p []byte, l Limits) (Batch, error) {
	l = l.orDefault()
	if len(p) > l.BatchBytes {
		return nil, tooLargef("%d bytes, the limit is %d", len(p), l.BatchBytes)
	}
	if len(p) < HeaderSize {
		return nil, corruptf("%d bytes, a header alone has %d", len(p), HeaderSize)
	}
	if p[atMagic] != magic {
		return nil, invalidf("magic is %d, only %d is known", p[atMagic], magic)
	}
	size := int64(i32(p, atLength)) + lengthEnd
	switch {
	case size > int64(len(p)):
		return nil, corruptf("length field says %d bytes, %d are there", size, len(p))
	case size < HeaderSize:
		return nil, invalidf("length field says %d bytes, a header alone has %d", size, HeaderSize)
	case size < int64(len(p)):
		return nil, invalidf("%d bytes after the end of the batch", int64(len(p))-size)
	}
	b := Batch(slices.Clip(p))
	if err := b.CheckCRC(); err != nil {
		return nil, err
	}
	if err := checkHeader(b, l); err != nil {
		return nil, err
	}
	w := walker{first: b.FirstTimestamp()}
	var err error
	if b.Codec() == None {
		err = w.slice(b[HeaderSize:], int(b.Count()))
	} else {
		w, err = walkCompressed(b.Codec(), b[HeaderSize:], b.FirstTimestamp(), int(b.Count()), l.DecompressedBytes)
	}
	if err != nil {
		return nil, err
	}
	if w.max != b.MaxTimestamp() {
		return nil, invalidf("greatest timestamp is %d, the header says %d", w.max, b.MaxTimestamp())
	}
	return b, nil
}

func checkHeader(b Batch, l Limits) error {
	attributes := b.Attributes()
	switch {
	case !b.Codec().known():
		return fmt.Errorf("%w %d", ErrCodec, b.Codec())
	case b.IsControl():
		return invalidf("control batches are not for producers")
	case b.IsTransactional():
		return invalidf("transactions are not supported")
	case attributes&attrLogTime != 0:
		return invalidf("log append time is not for producers to set")
	case attributes&^attrProducer != 0:
		return invalidf("attributes %#04x have unknown bits", attributes)
	case b.Count() < 1:
		return invalidf("%d records", b.Count())
	case int64(b.Count()) > int64(l.Records):
		return tooLargef("%d records, the limit is %d", b.Count(), l.Records)
	case i32(b, atLastDelta) != b.Count()-1:
		return invalidf("last offset delta is %d with %d records", i32(b, atLastDelta), b.Count())
	case b.ProducerID() < -1:
		return invalidf("producer id %d", b.ProducerID())
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return invalidf("producer id %d with epoch %d and sequence %d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	case b.Codec() == None && int64(b.Count())*minRecord > int64(len(b)-HeaderSize):
		return invalidf("%d records do not fit into %d bytes", b.Count(), len(b)-HeaderSize)
	}
	return nil
}
