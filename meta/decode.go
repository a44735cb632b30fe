package meta

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder takes binary values apart. After the first failure every call gives zero and err stays. It believes no count
// before what is left could hold that many.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) failf(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.rest = nil
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) bytes(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.rest) {
		d.failf("ends too early")
		return nil
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out
}

// uint reads an unsigned varint of at most limit.
func (d *decoder) uint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	switch {
	case n <= 0:
		d.failf("ends too early")
		return 0
	case v > limit:
		d.failf("%d where at most %d is allowed", v, limit)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) int32() int32 { return int32(d.uint(math.MaxInt32)) }
func (d *decoder) int64() int64 { return int64(d.uint(math.MaxInt64)) }

func (d *decoder) varint() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.failf("ends too early")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads how many things follow, each of at least size bytes.
func (d *decoder) count(size int) int { return int(d.uint(uint64(len(d.rest) / size))) }

func (d *decoder) error(what string) error {
	if d.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrFormat, what, d.err)
}

// end is the error of what was read, or of what is left behind it.
func (d *decoder) end(what string) error {
	if d.err == nil && len(d.rest) > 0 {
		d.failf("%d bytes behind its end", len(d.rest))
	}
	return d.error(what)
}
