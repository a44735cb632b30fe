package record

import "testing"

// The hashes are those that Apache Kafka's own tests pin.
func TestPartitionForKeyIsKafkas(t *testing.T) {
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != hash {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, hash)
		}
		for _, n := range []int32{1, 3, 4, 10_000} {
			want := hash & 0x7fffffff % n
			if got := PartitionForKey([]byte(key), n); got != want || got < 0 {
				t.Errorf("PartitionForKey(%q, %d) = %d, want %d", key, n, got, want)
			}
		}
	}
	if got := PartitionForKey(nil, 7); got < 0 || got > 6 {
		t.Errorf("an empty key goes to %d", got)
	}
}
