package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Codec is how a batch's records are compressed: the low three bits of its attributes.
type Codec uint8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String is the codec's name as users write it.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// ParseCodec reads none, gzip, snappy, lz4 or zstd.
func ParseCodec(name string) (Codec, error) {
	for i, n := range codecNames {
		if n == name {
			return Codec(i), nil
		}
	}
	return None, fmt.Errorf("%w %q: choose one of %s", ErrCodec, name, strings.Join(codecNames[:], ", "))
}

// newCompressor gives franz-go's compressor, so that what we write is what Kafka clients write.
func newCompressor(c Codec) (kgo.Compressor, error) {
	switch c {
	case None:
		return nil, nil //nolint:nilnil // no codec, no compressor
	case Gzip:
		return kgo.DefaultCompressor(kgo.GzipCompression())
	case Snappy:
		return kgo.DefaultCompressor(kgo.SnappyCompression())
	case LZ4:
		return kgo.DefaultCompressor(kgo.Lz4Compression())
	case Zstd:
		return kgo.DefaultCompressor(kgo.ZstdCompression())
	}
	return nil, fmt.Errorf("%w: %d", ErrCodec, c)
}

// decompress gives the decompressed bytes, at most limit of them. franz-go's own decompressor takes no limit, so the
// streams of the libraries below it are read here, through one that ends. Memory grows with what really comes out, never
// with what a header claims.
func decompress(c Codec, src []byte, limit int) ([]byte, error) {
	switch c {
	case None:
		return src, nil
	case Gzip:
		r, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, invalid(err)
		}
		return drain(r, limit)
	case LZ4:
		return drain(lz4.NewReader(bytes.NewReader(src)), limit)
	case Zstd:
		return unzstd(src, limit)
	case Snappy:
		return unsnappy(src, limit)
	}
	return nil, fmt.Errorf("%w: %d", ErrCodec, c)
}

func invalid(err error) error { return fmt.Errorf("%w: %w", ErrInvalid, err) }

func tooLarge(limit int) error {
	return fmt.Errorf("%w: records decompress to more than the limit of %d bytes", ErrTooLarge, limit)
}

func drain(r io.Reader, limit int) ([]byte, error) {
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, invalid(err)
	}
	if n > int64(limit) {
		return nil, tooLarge(limit)
	}
	return out.Bytes(), nil
}

// zstdReaders keeps decoders: making one costs far more than using it. Each works alone and with little memory.
var zstdReaders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic(fmt.Sprintf("zstd decoder: %v", err)) // the options are constants
	}
	return d
}}

func unzstd(src []byte, limit int) ([]byte, error) {
	d, _ := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(d)
	if err := d.Reset(bytes.NewReader(src)); err != nil {
		return nil, invalid(err)
	}
	out, err := drain(d, limit)
	if resetErr := d.Reset(nil); err == nil && resetErr != nil {
		return nil, invalid(resetErr)
	}
	return out, err
}

// xerialMagic begins the framing of the Java snappy stream: magic, version, lowest compatible version, then blocks of a big
// endian length and raw snappy.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderSize = 16

func unsnappy(src []byte, limit int) ([]byte, error) {
	if len(src) < xerialHeaderSize || !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(nil, src, limit)
	}
	var out []byte
	for rest := src[xerialHeaderSize:]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, invalid(errors.New("snappy block ends too early"))
		}
		n := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		if uint64(n) > uint64(len(rest)) {
			return nil, invalid(errors.New("snappy block ends too early"))
		}
		var err error
		if out, err = unsnappyBlock(out, rest[:n], limit); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return out, nil
}

// snappyRatio is more than a snappy block can expand: a copy of 64 bytes takes three.
const snappyRatio = 32

func unsnappyBlock(out, block []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, invalid(err)
	}
	if n > limit-len(out) {
		return nil, tooLarge(limit)
	}
	if n > snappyRatio*len(block)+64 {
		return nil, invalid(fmt.Errorf("snappy block of %d bytes claims to hold %d", len(block), n))
	}
	decoded, err := snappy.Decode(nil, block)
	if err != nil {
		return nil, invalid(err)
	}
	if out == nil {
		return decoded, nil
	}
	return append(out, decoded...), nil
}
