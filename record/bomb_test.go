package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/tidemark-io/tidemark/record"
)

// What is small to send and large to read must not cost us memory.

func TestBombs(t *testing.T) {
	for _, codec := range codecs[1:] {
		// A record that claims the whole stream, so that only the cap can stop it.
		p := frame(bomb(t, codec), int16(codec), 1)
		var err error
		got := allocated(func() { _, err = record.Validate(p, record.Limits{BatchBytes: 64 << 20}) })
		if err == nil {
			t.Fatal(codec, "takes a bomb")
		}
		// The zeros are records of no length, which are refused at once: let the walker run through them.
		q := frame(prefixed(t, codec), int16(codec), 1)
		got = max(got, allocated(func() { _, err = record.Validate(q, record.Limits{BatchBytes: 64 << 20}) }))
		if !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v", codec, err)
		}
		if got > 24<<20 {
			t.Errorf("%s: refusing %d bytes took %d MiB", codec, len(q), got>>20)
		}
		t.Logf("%s: %d bytes received, %.1f MiB taken: %v", codec, len(q), float64(got)/(1<<20), err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bomb is 1 GiB of zeros, compressed.
func bomb(tb testing.TB, codec record.Codec) []byte {
	tb.Helper()
	const size = 1 << 30
	var buf bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case record.Gzip:
		w, _ = gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	case record.LZ4:
		w = lz4.NewWriter(&buf)
	case record.Zstd:
		w, _ = zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
	case record.Snappy: // blocks of snappy-java, since one raw block of this size is above the limit of a batch
		block := snappy.Encode(nil, make([]byte, 1<<20))
		buf.WriteString("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
		for range 100 {
			buf.Write(binary.BigEndian.AppendUint32(nil, uint32(len(block))))
			buf.Write(block)
		}
		return buf.Bytes()
	case record.None:
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// prefixed is a bomb that begins with a record whose value is as long as the limit lets it.
func prefixed(tb testing.TB, codec record.Codec) []byte {
	tb.Helper()
	body := []byte{0, 0, 0, 1}
	body = binary.AppendVarint(body, 64<<20-16)
	head := append(binary.AppendVarint(nil, 64<<20), body...)
	switch codec {
	case record.Gzip:
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, _ = w.Write(head)
		_ = w.Close()
		return append(buf.Bytes(), bomb(tb, codec)...)
	case record.LZ4:
		var buf bytes.Buffer
		w := lz4.NewWriter(&buf)
		_, _ = w.Write(head)
		_ = w.Close()
		return append(buf.Bytes(), bomb(tb, codec)...)
	case record.Zstd:
		w, _ := zstd.NewWriter(nil)
		return append(w.EncodeAll(head, nil), bomb(tb, codec)...)
	case record.Snappy:
		all := bomb(tb, codec)
		block := snappy.Encode(nil, head)
		out := append(bytes.Clone(all[:16]), binary.BigEndian.AppendUint32(nil, uint32(len(block)))...)
		return append(append(out, block...), all[16:]...)
	case record.None:
	}
	return nil
}

// A few bytes that claim much must not make us take much.
func TestAmplification(t *testing.T) {
	claims := map[string][]byte{
		"snappy":                       frame(binary.AppendUvarint(nil, 60<<20), 2, 1),
		"xerial":                       frame(append([]byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x04"), binary.AppendUvarint(nil, 60<<20)...), 2, 1),
		"lz4":                          frame([]byte{0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9, 0xff, 0xff, 0x3f, 0x00}, 3, 1),
		"zstd single segment of 1 GiB": frame([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0}, 4, 1),
		"zstd window of 1 GiB":         frame([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 1, 0, 0}, 4, 1),
		"count":                        frame(make([]byte, 10), 0, 1<<20),
	}
	for name, p := range claims {
		var err error
		got := allocated(func() { _, err = record.Validate(p, record.Limits{}) })
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got > 10<<20 {
			t.Errorf("%s: %d bytes made us take %d", name, len(p), got)
		}
		t.Logf("%s: %d bytes, %d taken: %v", name, len(p), got, err)
		got = allocated(func() {
			for _, e := range record.Batch(p).Records(record.Limits{}) {
				err = e
			}
		})
		if err == nil || got > 10<<20 {
			t.Errorf("%s: Records took %d: %v", name, got, err)
		}
	}
}

// allocated is what f takes from the heap in all, whether it gives it back or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
