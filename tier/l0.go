package tier

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// The L0 format, version 1 (docs/formats/l0.md). All integers are big-endian, as in the batches.
//
//	header   0 magic "TMARK_L0"   8 version u32   12 CRC32C of bytes 0..11 u32
//	blocks   16 ...               concatenated batches of one partition each, back to back
//	index    meta.L0Index.Encode
//	footer   0 index offset u64   8 index length u32   12 CRC32C of the index u32   16 object size u64
//	         24 version u32      28 CRC32C of bytes 0..27 u32      32 magic "TMARK_LF"
const (
	l0Version     = 1
	l0HeaderSize  = 16
	l0FooterSize  = 40
	l0HeaderMagic = "TMARK_L0"
	l0FooterMagic = "TMARK_LF"

	// l0BlockBytes is the length up to which batches share a block. A longer batch has one of its own.
	l0BlockBytes = 1 << 20
	// l0MaxBlock and l0MaxIndex bound what a damaged or hostile index can make a reader allocate.
	l0MaxBlock = 64 << 20
	l0MaxIndex = 64 << 20

	// keptRanges is how many sequence ranges a partition remembers of a producer.
	keptRanges = 5
)

// ErrVersion says that an object was written in a format newer than this program.
var ErrVersion = errors.New("unknown format version")

// L0Batch is a batch with its offset and epoch stamped, and what travels beside it.
type L0Batch struct {
	Topic      meta.TopicID
	Partition  int32
	AppendTime int64 // ms since the Unix epoch, by the leader's clock
	Batch      record.Batch
}

// L0Object is an object ready to be put. Body aliases the batches it was built from: they must not change while it is used.
type L0Object struct {
	Body        [][]byte
	Size        int64 // bytes of Body together
	Index       meta.L0Index
	IndexBytes  []byte // the index as it stands in Body
	IndexOffset int64
	IndexCRC    uint32 // CRC32C of IndexBytes
}

// BuildL0 lays batches out as an L0 object: sorted by topic, partition and offset, consecutive ones of a partition with joining
// offsets and one epoch in blocks of about 1 MiB. It copies no payload and leaves the slice it is given in order. Batches that
// overlap are refused: a log cannot hold two records at one offset.
func BuildL0(batches []L0Batch) (*L0Object, error) {
	sorted := slices.Clone(batches)
	slices.SortFunc(sorted, func(a, b L0Batch) int {
		switch {
		case a.Topic != b.Topic:
			return bytes.Compare(a.Topic[:], b.Topic[:])
		case a.Partition != b.Partition:
			return cmp.Compare(a.Partition, b.Partition)
		}
		return cmp.Compare(a.Batch.BaseOffset(), b.Batch.BaseOffset())
	})
	var l layout
	l.start(len(sorted))
	var ranges producerRanges
	for i := range sorted {
		b := &sorted[i]
		if len(b.Batch) > l0MaxBlock {
			return nil, fmt.Errorf("build L0 object: a batch of %d bytes; the limit is %d", len(b.Batch), l0MaxBlock)
		}
		err := l.add(meta.L0Entry{
			Topic: b.Topic, Partition: b.Partition, Epoch: b.Batch.LeaderEpoch(), BaseOffset: b.Batch.BaseOffset(),
			Count: int32(b.Batch.NextOffset() - b.Batch.BaseOffset()), Length: int32(len(b.Batch)),
			MaxTimestamp: b.Batch.MaxTimestamp(), FirstAppend: b.AppendTime, LastAppend: b.AppendTime, Batches: 1,
			CRC: knownChecksum(b.Batch),
		}, b.Batch)
		if err != nil {
			return nil, fmt.Errorf("build L0 object: %w", err)
		}
		if id := b.Batch.ProducerID(); id >= 0 {
			ranges.add(meta.L0Producer{
				Topic: b.Topic, Partition: b.Partition, ProducerID: id, Epoch: b.Batch.ProducerEpoch(),
				FirstSequence: b.Batch.BaseSequence(), LastSequence: b.Batch.LastSequence(),
				BaseOffset: b.Batch.BaseOffset(), AppendTime: b.AppendTime,
			})
		}
	}
	return l.finish(ranges.last())
}

// layout builds an object from pieces that come ordered by topic, partition and offset. A piece is one batch, or a block of
// an earlier object.
type layout struct {
	body    [][]byte
	size    int64
	entries []meta.L0Entry
}

func (l *layout) start(pieces int) {
	header := make([]byte, 0, l0HeaderSize)
	header = append(header, l0HeaderMagic...)
	header = binary.BigEndian.AppendUint32(header, l0Version)
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	l.body = append(make([][]byte, 0, pieces+2), header)
	l.size = l0HeaderSize
}

// knownChecksum is the checksum of a batch that is large enough for that to cost less than reading it, else 0.
func knownChecksum(b record.Batch) uint32 {
	if len(b) < record.CombineFrom {
		return 0
	}
	return b.Checksum()
}

// extendChecksum is a checksum extended by a piece whose own may be known; 0 stands for one that is not.
func extendChecksum(sum, known uint32, piece []byte) uint32 {
	if known == 0 || len(piece) < record.CombineFrom {
		return crc32.Update(sum, castagnoli, piece)
	}
	return record.CombineChecksums(sum, known, len(piece))
}

// add appends a piece, whose position in e does not matter and whose checksum may be 0 for unknown, and joins it to the block before where it may.
func (l *layout) add(e meta.L0Entry, data []byte) error {
	e.Position = l.size
	joined := false
	if n := len(l.entries); n > 0 {
		last := &l.entries[n-1]
		if last.Topic == e.Topic && last.Partition == e.Partition {
			end := last.BaseOffset + int64(last.Count)
			if end > e.BaseOffset {
				return fmt.Errorf("partition %s/%d: offset %d comes twice (epochs %d and %d)", e.Topic, e.Partition, e.BaseOffset, last.Epoch, e.Epoch)
			}
			if end == e.BaseOffset && last.Epoch == e.Epoch && int64(last.Length)+int64(e.Length) <= l0BlockBytes &&
				int64(last.Count)+int64(e.Count) <= math.MaxInt32 {
				last.Count += e.Count
				last.Length += e.Length
				last.Batches += e.Batches
				last.CRC = extendChecksum(last.CRC, e.CRC, data)
				last.MaxTimestamp = max(last.MaxTimestamp, e.MaxTimestamp)
				last.FirstAppend = min(last.FirstAppend, e.FirstAppend)
				last.LastAppend = max(last.LastAppend, e.LastAppend)
				joined = true
			}
		}
	}
	if !joined {
		e.CRC = extendChecksum(0, e.CRC, data)
		l.entries = append(l.entries, e)
	}
	l.body = append(l.body, data)
	l.size += int64(len(data))
	return nil
}

func (l *layout) finish(producers []meta.L0Producer) (*L0Object, error) {
	o := &L0Object{Index: meta.L0Index{Entries: l.entries, Producers: producers}, IndexOffset: l.size}
	o.IndexBytes = o.Index.Encode()
	if len(o.IndexBytes) > l0MaxIndex {
		return nil, fmt.Errorf("build L0 object: an index of %d bytes; the limit is %d", len(o.IndexBytes), l0MaxIndex)
	}
	o.IndexCRC = crc32.Checksum(o.IndexBytes, castagnoli)
	o.Size = l.size + int64(len(o.IndexBytes)) + l0FooterSize
	if o.Size > MaxPutBytes {
		return nil, fmt.Errorf("build L0 object: %d bytes; the limit is %d", o.Size, MaxPutBytes)
	}
	l.body = append(l.body, o.IndexBytes, encodeL0Footer(l0Footer{
		indexOffset: o.IndexOffset, indexLength: uint32(len(o.IndexBytes)), indexCRC: o.IndexCRC, size: o.Size,
	}))
	o.Body = l.body
	return o, nil
}

// l0Footer is the end of an object.
type l0Footer struct {
	indexOffset int64
	indexLength uint32
	indexCRC    uint32
	size        int64
}

func encodeL0Footer(f l0Footer) []byte {
	p := make([]byte, 0, l0FooterSize)
	p = binary.BigEndian.AppendUint64(p, uint64(f.indexOffset))
	p = binary.BigEndian.AppendUint32(p, f.indexLength)
	p = binary.BigEndian.AppendUint32(p, f.indexCRC)
	p = binary.BigEndian.AppendUint64(p, uint64(f.size))
	p = binary.BigEndian.AppendUint32(p, l0Version)
	p = binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
	return append(p, l0FooterMagic...)
}

// decodeL0Footer reads the last l0FooterSize bytes of an object.
func decodeL0Footer(p []byte) (l0Footer, error) {
	if len(p) != l0FooterSize || string(p[32:]) != l0FooterMagic {
		return l0Footer{}, errors.New("it does not end in a footer")
	}
	if binary.BigEndian.Uint32(p[28:]) != crc32.Checksum(p[:28], castagnoli) {
		return l0Footer{}, errors.New("checksum of the footer is wrong")
	}
	if v := binary.BigEndian.Uint32(p[24:]); v != l0Version {
		return l0Footer{}, fmt.Errorf("%w %d; this program reads %d", ErrVersion, v, l0Version)
	}
	f := l0Footer{
		indexOffset: int64(binary.BigEndian.Uint64(p)),
		indexLength: binary.BigEndian.Uint32(p[8:]), indexCRC: binary.BigEndian.Uint32(p[12:]),
		size: int64(binary.BigEndian.Uint64(p[16:])),
	}
	if f.indexOffset < l0HeaderSize || f.indexLength > l0MaxIndex || f.size != f.indexOffset+int64(f.indexLength)+l0FooterSize {
		return l0Footer{}, errors.New("footer contradicts itself")
	}
	return f, nil
}

// producerRanges keeps the last ranges of each producer and partition. Ranges of a partition come in the order of offsets.
type producerRanges struct {
	all []meta.L0Producer
}

func (r *producerRanges) add(p meta.L0Producer) { r.all = append(r.all, p) }

// last returns at most keptRanges for each partition and producer, in the order they came.
func (r *producerRanges) last() []meta.L0Producer {
	if len(r.all) == 0 {
		return nil
	}
	type owner struct {
		topic     meta.TopicID
		partition int32
		producer  int64
	}
	seen := make(map[owner]int)
	out := make([]meta.L0Producer, 0, min(len(r.all), 1024))
	for _, p := range slices.Backward(r.all) {
		k := owner{p.Topic, p.Partition, p.ProducerID}
		if seen[k]++; seen[k] <= keptRanges {
			out = append(out, p)
		}
	}
	slices.Reverse(out)
	return out
}
