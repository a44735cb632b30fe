package client

import "encoding/binary"

// PartitionForKey is the partition of a key among n, as Kafka's Java client computes it; n must be above 0.
func PartitionForKey(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n //nolint:gosec // 31 bits
}

// murmur2 is the 32-bit MurmurHash2 of Austin Appleby with the seed that Kafka uses.
func murmur2(p []byte) uint32 {
	const (
		m    = 0x5bd1e995
		seed = 0x9747b28c
	)
	h := uint32(seed) ^ uint32(len(p)) //nolint:gosec // the hash takes 32 bits of it
	for ; len(p) >= 4; p = p[4:] {
		k := binary.LittleEndian.Uint32(p) * m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(p) {
	case 3:
		h ^= uint32(p[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(p[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(p[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
