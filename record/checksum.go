package record

import "hash/crc32"

// A checksum of bytes that are one behind the other follows from those of the parts: a CRC is the remainder of the bytes, taken as a polynomial, by another one;
// the remainder of the first part is multiplied by x once for each bit of the second, and the second's is added. So what has been checked once, by the producer's
// checksum in each batch, is not read again for the checksums of objects. "Ross N. Williams, A Painless Guide to CRC Error Detection Algorithms"
// has the arithmetic.

// castagnoliPolynomial has the lowest power of x in its highest bit, as the checksums do.
const castagnoliPolynomial = 0x82f63b78

// CombineFrom is the length from which combining is faster than reading.
const CombineFrom = 16 << 10

// Checksum is the CRC32C of all bytes of a batch, offset and epoch included. It believes the batch's own checksum: see CheckCRC.
func (b Batch) Checksum() uint32 {
	if len(b) < CombineFrom {
		return crc32.Checksum(b, castagnoli)
	}
	return CombineChecksums(crc32.Checksum(b[:atAttributes], castagnoli), b.CRC(), len(b)-atAttributes)
}

// CombineChecksums is the CRC32C of bytes with the checksum first, followed by so many bytes with the checksum second. It takes under a microsecond.
func CombineChecksums(first, second uint32, secondBytes int) uint32 {
	for n := 0; secondBytes != 0; n, secondBytes = n+1, secondBytes>>1 {
		if secondBytes&1 != 0 {
			first = multiply(first, bytePowers[n])
		}
	}
	return first ^ second
}

// bytePowers are the remainders of x to the power of 8 << n.
var bytePowers = func() (powers [63]uint32) {
	powers[0] = 1 << (31 - 8)
	for n := 1; n < len(powers); n++ {
		powers[n] = multiply(powers[n-1], powers[n-1])
	}
	return powers
}()

// multiply gives the remainder of a product of two remainders.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ castagnoliPolynomial&-(b&1)
	}
	return product
}
