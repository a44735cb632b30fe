package meta

import (
	"reflect"
	"testing"
)

// FuzzGroupOffsets decodes anything: it takes no more memory than its input stands for, and what decodes is encoded the same.
func FuzzGroupOffsets(f *testing.F) {
	some, err := encodeGroupOffsets(GroupOffsets{0: {Offset: 7, LeaderEpoch: -1, Committed: 1_700_000_000_000, Metadata: "m"}, 9_999: {Offset: 1<<63 - 1, LeaderEpoch: 1<<31 - 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(some)
	f.Add([]byte{1, 0})
	f.Add([]byte{1, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, p []byte) {
		var out GroupOffsets
		var err error
		allocates(t, p, 64, 16<<10, func() { out, err = decodeGroupOffsets(KeyValue{Key: "k", Value: p}) })
		if err != nil {
			return
		}
		again, err := encodeGroupOffsets(out)
		if err != nil {
			return // more than is ever written
		}
		if back, err := decodeGroupOffsets(KeyValue{Key: "k", Value: again}); err != nil || !reflect.DeepEqual(back, out) {
			t.Errorf("%v became %v, %v", out, back, err)
		}
	})
}

// TestGroupOffsetsAsDrawn is the example of docs/formats/etcd.md.
func TestGroupOffsetsAsDrawn(t *testing.T) {
	p, err := encodeGroupOffsets(GroupOffsets{3: {Offset: 42, LeaderEpoch: -1, Committed: 1000, Metadata: "x"}})
	if want := "\x01\x01\x03\x2a\x00\xe8\x07\x01x"; err != nil || string(p) != want {
		t.Errorf("%x, %v", p, err)
	}
}
