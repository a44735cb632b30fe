package record

import "math"

// varint reads a zigzag varint of up to 64 bits at p[i] and returns it with the index behind it; the index is -1 when p ends
// inside the number or the number is longer than 64 bits. The one-byte case is here so that it is inlined.
func varint(p []byte, i int) (value int64, next int) {
	if uint(i) < uint(len(p)) && p[i] < 0x80 {
		return int64(p[i]>>1) ^ -int64(p[i]&1), i + 1
	}
	return longVarint(p, i)
}

func longVarint(p []byte, i int) (value int64, next int) {
	if i >= 0 && i+1 < len(p) && p[i+1] < 0x80 { // two bytes: most lengths and offset deltas
		u := uint64(p[i]&0x7f) | uint64(p[i+1])<<7
		return unzigzag(u), i + 2
	}
	var u uint64
	for shift := uint(0); shift < 70; shift += 7 {
		if uint(i) >= uint(len(p)) {
			return 0, -1
		}
		c := p[i]
		i++
		if shift == 63 && c > 1 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return unzigzag(u), i
		}
	}
	return 0, -1
}

// varint32 is varint for fields of 32 bits.
func varint32(p []byte, i int) (value, next int) {
	v, next := varint(p, i)
	if v < math.MinInt32 || v > math.MaxInt32 {
		return 0, -1
	}
	return int(v), next
}

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func appendVarint(p []byte, v int64) []byte {
	u := zigzag(v)
	for u >= 0x80 {
		p = append(p, byte(u)|0x80)
		u >>= 7
	}
	return append(p, byte(u))
}

func varintSize(v int64) int {
	n := 1
	for u := zigzag(v); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
