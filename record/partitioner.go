package record

import "encoding/binary"

// PartitionForKey chooses the partition of a record with a key among n >= 1 partitions, as Kafka's Java client does, so that
// a key stays in its partition whichever client writes it: the positive murmur2 of the key, modulo n. An empty key is a key;
// records with a null key may go anywhere, and are none of this function's business.
func PartitionForKey(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

// murmur2 is 32-bit MurmurHash2 with the seed that Kafka uses.
func murmur2(p []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(p))
	for len(p) >= 4 {
		k := binary.LittleEndian.Uint32(p)
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		p = p[4:]
	}
	switch len(p) {
	case 3:
		h ^= uint32(p[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(p[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(p[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
