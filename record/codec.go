package record

import (
	"bytes"
	"fmt"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed: the low three bits of its attributes.
type Codec uint8

// The codecs that Kafka knows.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

// ParseCodec reads none, gzip, snappy, lz4 or zstd.
func ParseCodec(name string) (Codec, error) {
	for c, n := range codecNames {
		if n == name {
			return Codec(c), nil
		}
	}
	return None, fmt.Errorf("%w %q: known are none, gzip, snappy, lz4 and zstd", ErrCodec, name)
}

// String is the name that ParseCodec reads.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

func (c Codec) known() bool { return int(c) < len(codecNames) }

// compressor holds the state that a codec reuses from batch to batch. It is not safe for concurrent use.
type compressor struct {
	codec Codec
	buf   bytes.Buffer
	gz    *gzip.Writer
	lz    *lz4.Writer
	zs    *zstd.Encoder
	out   []byte
}

// compress returns src compressed; the result is valid until the next call.
func (c *compressor) compress(src []byte) ([]byte, error) {
	c.buf.Reset()
	switch c.codec {
	case None:
		return src, nil
	case Gzip:
		if c.gz == nil {
			c.gz = gzip.NewWriter(&c.buf)
		}
		c.gz.Reset(&c.buf)
		if _, err := c.gz.Write(src); err != nil {
			return nil, fmt.Errorf("compress with gzip: %w", err)
		}
		if err := c.gz.Close(); err != nil {
			return nil, fmt.Errorf("compress with gzip: %w", err)
		}
		return c.buf.Bytes(), nil
	case Snappy:
		c.out = snappy.Encode(c.out[:cap(c.out)], src)
		return c.out, nil
	case LZ4:
		if c.lz == nil {
			c.lz = lz4.NewWriter(&c.buf)
			if err := c.lz.Apply(lz4.BlockSizeOption(lz4.Block256Kb), lz4.ConcurrencyOption(1)); err != nil {
				return nil, fmt.Errorf("compress with lz4: %w", err)
			}
		}
		c.lz.Reset(&c.buf)
		if _, err := c.lz.Write(src); err != nil {
			return nil, fmt.Errorf("compress with lz4: %w", err)
		}
		if err := c.lz.Close(); err != nil {
			return nil, fmt.Errorf("compress with lz4: %w", err)
		}
		return c.buf.Bytes(), nil
	case Zstd:
		if c.zs == nil {
			var err error
			c.zs, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return nil, fmt.Errorf("compress with zstd: %w", err)
			}
		}
		c.out = c.zs.EncodeAll(src, c.out[:0])
		return c.out, nil
	}
	return nil, fmt.Errorf("%w %d", ErrCodec, c.codec)
}
