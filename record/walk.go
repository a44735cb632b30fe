package record

import "unicode/utf8"

// walker checks records one behind the other. It remembers what the header must agree with.
type walker struct {
	first int64 // timestamp that deltas are relative to
	max   int64
	n     int // records so far
}

// Kinds of damage, as constants so that the path of good records makes no strings.
const (
	badLength    = "its length runs past the end of the batch"
	badField     = "a number in it is cut off or too long"
	badKey       = "its key runs past its end"
	badValue     = "its value runs past its end"
	badHeaders   = "its headers run past its end"
	badHeaderKey = "the key of a header is not UTF-8"
	badRest      = "it has bytes after its last header"
	badOffset    = "its offset delta is not its place in the batch"
	badTime      = "its timestamp overflows"
	badEnd       = "the records end before it"
)

func (w *walker) fail(what string) error { return invalidf("record %d: %s", w.n, what) }

// timestamp takes the timestamp delta of the next record.
func (w *walker) timestamp(delta int64) bool {
	t := w.first + delta
	if (delta > 0) != (t > w.first) && delta != 0 {
		return false
	}
	if w.n == 0 || t > w.max {
		w.max = t
	}
	return true
}

// body checks p as the bytes of one whole record behind its length. It returns what is wrong, or "".
func (w *walker) body(p []byte) string {
	// Attributes (unused by anybody) and then the timestamp.
	v, i := varint(p, 1)
	if i < 0 {
		return badField
	}
	if !w.timestamp(v) {
		return badTime
	}
	if v, i = varint(p, i); i < 0 {
		return badField
	}
	if v != int64(w.n) {
		return badOffset
	}
	if v, i = varint(p, i); i < 0 {
		return badField
	}
	if v < -1 || v > int64(len(p)-i) {
		return badKey
	}
	if v > 0 {
		i += int(v)
	}
	if v, i = varint(p, i); i < 0 {
		return badField
	}
	if v < -1 || v > int64(len(p)-i) {
		return badValue
	}
	if v > 0 {
		i += int(v)
	}
	if v, i = varint(p, i); i < 0 {
		return badField
	}
	if v != 0 {
		var bad string
		if i, bad = headers(p, i, v); bad != "" {
			return bad
		}
	}
	if i != len(p) {
		return badRest
	}
	w.n++
	return ""
}

// headers checks n headers at p[i] and returns the index behind them.
func headers(p []byte, i int, n int64) (next int, bad string) {
	if n < 0 || n > int64(len(p)-i)/2 { // a header takes two bytes or more
		return i, badHeaders
	}
	for range n {
		var v int
		if v, i = varint32(p, i); i < 0 {
			return i, badField
		}
		if v < 0 || v > len(p)-i {
			return i, badHeaders
		}
		if !utf8.Valid(p[i : i+v]) {
			return i, badHeaderKey
		}
		i += v
		if v, i = varint32(p, i); i < 0 {
			return i, badField
		}
		if v < -1 || v > len(p)-i {
			return i, badHeaders
		}
		i += max(v, 0)
	}
	return i, ""
}

// slice walks count records that are all of p.
func (w *walker) slice(p []byte, count int) error {
	i := 0
	for w.n < count {
		length, next := varint(p, i)
		if next < 0 {
			return w.fail(badEnd)
		}
		if length < 0 || length > int64(len(p)-next) {
			return w.fail(badLength)
		}
		i = next + int(length)
		if bad := w.body(p[next:i]); bad != "" {
			return w.fail(bad)
		}
	}
	if i != len(p) {
		return invalidf("%d bytes after the last record", len(p)-i)
	}
	return nil
}
