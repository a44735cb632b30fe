package tier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
)

// ReadBlock reads the batches of one block, in buf if its capacity suffices, and verifies their checksum against the entry.
// What does not match is read once more, because bytes are also damaged on their way; then it is *CorruptionError. An object
// that is missing is ErrNotFound: with a fresh index that too is corruption, which only the caller can know.
func ReadBlock(ctx context.Context, s Store, object string, e meta.L0Entry, buf []byte) ([]byte, error) {
	if err := checkEntry(object, e); err != nil {
		return nil, err
	}
	buf = slices.Grow(buf[:0], int(e.Length))[:e.Length]
	for range 2 {
		if err := readExact(ctx, s, object, buf, e.Position); err != nil {
			return nil, err
		}
		if crc32.Checksum(buf, castagnoli) == e.CRC {
			return buf, nil
		}
	}
	return nil, &CorruptionError{
		Object: object, Offset: e.Position,
		Reason: fmt.Sprintf("CRC32C of the block of %d bytes (partition %s/%d, offsets from %d) is %08x, not %08x",
			e.Length, e.Topic, e.Partition, e.BaseOffset, crc32.Checksum(buf, castagnoli), e.CRC),
	}
}

// readExact reads what a record says is there: an object that ends earlier is corrupt.
func readExact(ctx context.Context, s Store, object string, p []byte, off int64) error {
	err := s.ReadAt(ctx, object, p, off)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptionError{Object: object, Offset: off, Reason: fmt.Sprintf("it ends before the %d bytes that should be here", len(p))}
	}
	if err != nil {
		return fmt.Errorf("read L0 object: %w", err)
	}
	return nil
}

// ReadL0Index returns the index that a record stands for: its own if inline, else the object's, verified against footer and
// record. It holds also the partitions that the record excludes; whoever serves entries leaves those out.
func ReadL0Index(ctx context.Context, s Store, rec *meta.L0Record) (meta.L0Index, error) {
	if rec.Inline {
		return rec.Index, nil
	}
	if rec.IndexLength < 0 || rec.IndexLength > l0MaxIndex || rec.IndexOffset < l0HeaderSize ||
		rec.Size != rec.IndexOffset+int64(rec.IndexLength)+l0FooterSize {
		return meta.L0Index{}, &CorruptionError{Object: rec.Object, Offset: rec.IndexOffset, Reason: "its record contradicts itself"}
	}
	tail := make([]byte, int(rec.IndexLength)+l0FooterSize)
	var damage error
	for range 2 { // as in ReadBlock
		if err := readExact(ctx, s, rec.Object, tail, rec.IndexOffset); err != nil {
			return meta.L0Index{}, err
		}
		index, err := decodeL0Tail(tail, rec)
		if err == nil {
			return index, nil
		}
		damage = err
	}
	if errors.Is(damage, ErrVersion) {
		return meta.L0Index{}, fmt.Errorf("read index of L0 object %q: %w", rec.Object, damage)
	}
	return meta.L0Index{}, &CorruptionError{Object: rec.Object, Offset: rec.IndexOffset, Reason: damage.Error()}
}

// decodeL0Tail reads index and footer of an object. It allocates in proportion to the tail.
func decodeL0Tail(tail []byte, rec *meta.L0Record) (meta.L0Index, error) {
	if len(tail) < l0FooterSize {
		return meta.L0Index{}, errors.New("it is shorter than a footer")
	}
	encoded, end := tail[:len(tail)-l0FooterSize], tail[len(tail)-l0FooterSize:]
	f, err := decodeL0Footer(end)
	if err != nil {
		return meta.L0Index{}, err
	}
	if f.size != rec.Size || f.indexOffset != rec.IndexOffset || int64(f.indexLength) != int64(len(encoded)) || f.indexCRC != rec.IndexCRC {
		return meta.L0Index{}, errors.New("its footer is not the one its record names")
	}
	if crc32.Checksum(encoded, castagnoli) != f.indexCRC {
		return meta.L0Index{}, errors.New("checksum of the index is wrong")
	}
	index, err := meta.DecodeL0Index(encoded)
	if err != nil {
		return meta.L0Index{}, fmt.Errorf("decode index: %w", err)
	}
	for _, e := range index.Entries {
		if e.Position < l0HeaderSize || e.Length <= 0 || e.Position > f.indexOffset-int64(e.Length) {
			return meta.L0Index{}, fmt.Errorf("its index names %d bytes at %d, outside the blocks", e.Length, e.Position)
		}
	}
	return index, nil
}

// CheckL0Header says whether p begins as an L0 object of a version that this program reads. Readers need it not, because
// they come through a record; tools that look at a file do.
func CheckL0Header(p []byte) error {
	var want layout
	want.start(0)
	if len(p) < l0HeaderSize || !bytes.Equal(p[:8], want.body[0][:8]) {
		return errors.New("it does not begin as an L0 object")
	}
	if !bytes.Equal(p[:l0HeaderSize], want.body[0]) {
		return fmt.Errorf("header of L0 object: %w, or damaged", ErrVersion)
	}
	return nil
}
