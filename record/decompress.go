package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// maxWindow is the greatest zstd window; a frame that asks for more is refused before memory is taken.
	maxWindow = 8 << 20
	// snappyRatio is above what any snappy block expands: three bytes copy at most 64.
	snappyRatio = 22
)

// decompressor turns compressed records into a stream. Decompressors are pooled; what they hold on to is bounded by the
// codec's window.
type decompressor struct {
	src bytes.Reader
	gz  *gzip.Reader
	lz  *lz4.Reader
	zs  *zstd.Decoder
	sn  snappyReader
}

var decompressors = sync.Pool{New: func() any { return new(decompressor) }}

// open begins to read p, of which no single piece may decompress to more than limit. The reader is valid until release. Its errors are ErrInvalid or ErrTooLarge; it ends with io.EOF only
// when p was used up.
func (d *decompressor) open(codec Codec, p []byte, limit int) (io.Reader, error) {
	d.src.Reset(p)
	switch codec {
	case Gzip:
		if d.gz == nil {
			d.gz = new(gzip.Reader)
		}
		if err := d.gz.Reset(&d.src); err != nil {
			return nil, invalidf("open gzip stream: %w", noEOF(err))
		}
		return d.gz, nil
	case Snappy:
		if err := d.sn.reset(p, limit); err != nil {
			return nil, err
		}
		return &d.sn, nil
	case LZ4:
		if d.lz == nil {
			d.lz = lz4.NewReader(&d.src)
		}
		d.lz.Reset(&d.src)
		return d.lz, nil
	case Zstd:
		if d.zs == nil {
			zs, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, invalidf("open zstd stream: %w", err)
			}
			d.zs = zs
		}
		if err := d.zs.Reset(&d.src); err != nil {
			return nil, invalidf("open zstd stream: %w", noEOF(err))
		}
		return d.zs, nil
	case None:
		return &d.src, nil
	}
	return nil, ErrCodec
}

// release drops every reference to the input and to large buffers, and gives d back.
func (d *decompressor) release() {
	d.src.Reset(nil)
	d.sn.release()
	decompressors.Put(d)
}

// noEOF keeps an early end from looking like a clean one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// snappyMagic begins the framing of snappy-java: then two versions of four bytes, then blocks, each behind its length in four bytes.
var snappyMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

// snappyReader reads a raw snappy block, or the blocks of snappy-java's framing.
type snappyReader struct {
	rest   []byte // blocks not yet decoded
	framed bool
	limit  int    // greatest decoded block
	block  []byte // decoded, not yet read
	buf    []byte // reused between blocks
}

func (s *snappyReader) reset(p []byte, limit int) error {
	s.limit = limit
	s.rest, s.block, s.framed = p, nil, bytes.HasPrefix(p, snappyMagic)
	if s.framed {
		if len(p) < 16 {
			return invalidf("snappy frame ends in its header")
		}
		s.rest = p[16:]
	}
	return nil
}

func (s *snappyReader) release() {
	s.rest, s.block = nil, nil
	if cap(s.buf) > 1<<20 {
		s.buf = nil // do not pin one large block in the pool
	}
}

// Read fills p from the current block and decodes the next one when it is used up.
func (s *snappyReader) Read(p []byte) (int, error) {
	for len(s.block) == 0 {
		if len(s.rest) == 0 {
			return 0, io.EOF
		}
		block := s.rest
		s.rest = nil
		if s.framed {
			if len(block) < 4 {
				return 0, invalidf("snappy frame ends in the length of a block")
			}
			n := binary.BigEndian.Uint32(block)
			if uint64(n) > uint64(len(block)-4) {
				return 0, invalidf("snappy block of %d bytes, %d are there", n, len(block)-4)
			}
			block, s.rest = block[4:4+n], block[4+n:]
		}
		if err := s.decode(block); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.block)
	s.block = s.block[n:]
	return n, nil
}

func (s *snappyReader) decode(block []byte) error {
	size, err := snappy.DecodedLen(block)
	if err != nil {
		return invalidf("read the size of a snappy block: %w", err)
	}
	// The size is the sender's word: believe it only as far as the bytes that are here could go.
	if size > snappyRatio*len(block) {
		return invalidf("snappy block of %d bytes claims to hold %d", len(block), size)
	}
	if size > s.limit {
		return tooLargef("a snappy block decompresses to %d bytes, the limit is %d", size, s.limit)
	}
	if s.block, err = snappy.Decode(s.buf[:cap(s.buf)], block); err != nil {
		return invalidf("decompress snappy block: %w", err)
	}
	if cap(s.block) > cap(s.buf) {
		s.buf = s.block[:0]
	}
	return nil
}
