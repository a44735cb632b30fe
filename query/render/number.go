package render

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow/decimal128"
)

func integers[T int8 | int16 | int32 | int64](values []T) appender {
	return func(dst []byte, row int) []byte { return strconv.AppendInt(dst, int64(values[row]), 10) }
}

func naturals[T uint8 | uint16 | uint32 | uint64](values []T) appender {
	return func(dst []byte, row int) []byte { return strconv.AppendUint(dst, uint64(values[row]), 10) }
}

// appendFloat writes the fewest digits that read back as the same number, in a form that JSON takes. A whole number has ".0".
func appendFloat(dst []byte, f float64, size int, s style) []byte {
	if word := notFinite(f); word != "" {
		if s == styleJSON {
			return append(append(append(dst, '"'), word...), '"')
		}
		return append(dst, word...)
	}
	begin := len(dst)
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, size)
	}
	dst = strconv.AppendFloat(dst, f, 'f', -1, size)
	if slices.Contains(dst[begin:], '.') {
		return dst
	}
	return append(dst, ".0"...)
}

func notFinite(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return ""
}

// appendInt128 writes an integer of 128 bits with a point before its last scale digits. All of its values count, also those
// of more digits than a decimal's precision: DuckDB hands out HUGEINT as DECIMAL(38,0).
func appendInt128(dst []byte, v decimal128.Num, scale int32) []byte {
	hi, lo := uint64(v.HighBits()), v.LowBits()
	if v.HighBits() < 0 {
		dst = append(dst, '-')
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	var digits [40]byte // 2^128 has 39
	at := len(digits)
	for hi != 0 {
		const chunk = 1e19 // the greatest power of ten below 2^64
		var rest uint64
		var high uint64
		high, rest = hi/chunk, hi%chunk
		lo, rest = bits.Div64(rest, lo, chunk)
		hi = high
		for range 19 {
			at--
			digits[at] = byte('0' + rest%10)
			rest /= 10
		}
	}
	for lo != 0 {
		at--
		digits[at] = byte('0' + lo%10)
		lo /= 10
	}
	for at < len(digits) && digits[at] == '0' {
		at++
	}
	return appendScaled(dst, digits[at:], scale)
}

// appendBig is appendInt128 for integers of any size.
func appendBig(dst []byte, v *big.Int, scale int32) []byte {
	if v.Sign() < 0 {
		dst = append(dst, '-')
		v = new(big.Int).Neg(v)
	}
	digits := v.Append(nil, 10)
	if v.Sign() == 0 {
		digits = nil
	}
	return appendScaled(dst, digits, scale)
}

// appendScaled puts the point into digits, which have no zeros in front: "" is 0.
func appendScaled(dst, digits []byte, scale int32) []byte {
	if scale <= 0 { // no decimal of DuckDB has a negative one; Arrow's may
		if len(digits) == 0 {
			return append(dst, '0')
		}
		dst = append(dst, digits...)
		for range -scale {
			dst = append(dst, '0')
		}
		return dst
	}
	whole := len(digits) - int(scale)
	if whole <= 0 {
		dst = append(dst, '0', '.')
		for range -whole {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(append(dst, digits[:whole]...), '.')
	return append(dst, digits[whole:]...)
}
