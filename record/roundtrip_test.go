package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/record"
)

// What a builder builds is valid, decodes to the same, and franz-go's codec reads it alike.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom(codecs).Draw(t, "codec")
		big := rapid.IntRange(0, 4).Draw(t, "big") == 0
		var records []record.Record
		for range rapid.IntRange(1, 20).Draw(t, "records") {
			records = append(records, drawRecord(t, big))
		}
		b := build(t, codec, records)
		v, err := record.Validate(b, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		checkRecords(t, v, records)
		v.Stamp(1<<40, 9)
		if err := v.CheckCRC(); err != nil || v.BaseOffset() != 1<<40 || v.LeaderEpoch() != 9 || v.NextOffset() != 1<<40+int64(len(records)) {
			t.Fatal("stamp:", err, v.BaseOffset(), v.LeaderEpoch())
		}
		checkRecords(t, v, records)

		var k kmsg.RecordBatch
		if err := k.ReadFrom(v); err != nil {
			t.Fatal(err)
		}
		raw, err := kgo.DefaultDecompressor().Decompress(k.Records, kgo.CompressionCodecType(k.Attributes&7))
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range records {
			length, n := binary.Varint(raw)
			var r kmsg.Record
			if err := r.ReadFrom(raw[:n+int(length)]); err != nil {
				t.Fatal(err)
			}
			raw = raw[n+int(length):]
			if int(r.OffsetDelta) != i || k.FirstTimestamp+r.TimestampDelta64 != w.Timestamp || !same(r.Key, w.Key) || !same(r.Value, w.Value) || len(r.Headers) != len(w.Headers) {
				t.Fatalf("franz-go reads record %d as %+v", i, r)
			}
		}
		if k.ProducerID != v.ProducerID() || k.ProducerEpoch != v.ProducerEpoch() || k.FirstSequence != v.BaseSequence() || k.MaxTimestamp != v.MaxTimestamp() {
			t.Fatal("franz-go reads another header")
		}
	})
}

func drawRecord(t *rapid.T, big bool) record.Record {
	most := 300
	if big {
		most = 200_000
	}
	blob := func(name string) []byte {
		switch rapid.IntRange(0, 3).Draw(t, name+" kind") {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, name+" fill"))}, rapid.IntRange(0, most).Draw(t, name+" size"))
		default:
			return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, name)
		}
	}
	r := record.Record{Timestamp: rapid.Int64Range(-1, 1<<45).Draw(t, "time"), Key: blob("key"), Value: blob("value")}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		key := rapid.String().Draw(t, "header key")
		if big && rapid.Bool().Draw(t, "long header key") {
			key = strings.Repeat("läng€𝄞", rapid.IntRange(1, 9000).Draw(t, "times"))
		}
		r.Headers = append(r.Headers, record.Header{Key: key, Value: blob("header value")})
	}
	return r
}

// FuzzRoundTrip encodes one record with every codec.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "header", []byte("x"), int64(5))
	f.Add([]byte(nil), []byte(nil), "", []byte(nil), int64(-1))
	f.Fuzz(func(t *testing.T, key, value []byte, header string, hv []byte, ts int64) {
		r := record.Record{Timestamp: ts, Key: key, Value: value, Headers: []record.Header{{Key: header, Value: hv}}}
		for _, codec := range codecs {
			b := record.NewBuilder(codec)
			if err := b.Append(r); err != nil {
				if !errors.Is(err, record.ErrInvalid) {
					t.Fatal(err)
				}
				return
			}
			out, err := b.Build(-1, -1, -1)
			if err != nil {
				t.Fatal(err)
			}
			v, err := record.Validate(out, record.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			checkRecords(t, v, []record.Record{r})
		}
	})
}
