package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// message is a record with its place, as formats print and read it. A nil key or value is NULL.
type message struct {
	topic     string
	partition int32
	epoch     int32
	offset    int64
	timestamp int64 // ms since the Unix epoch
	key       []byte
	value     []byte
	headers   []messageHeader
}

type messageHeader struct {
	key   string
	value []byte // nil is NULL
}

// appendTo prints m, the count-th message from 1, behind dst. It fails when a length does not fit its encoding: what
// cannot be read back right is not printed.
func (f format) appendTo(dst []byte, m *message, count int64) ([]byte, error) {
	var err error
	for i := range f {
		p := &f[i]
		switch p.verb {
		case 0:
			dst = append(dst, p.literal...)
		case 'k':
			dst = p.text.appendTo(dst, m.key)
		case 'v':
			dst = p.text.appendTo(dst, m.value)
		case 't':
			dst = p.text.appendTo(dst, []byte(m.topic))
		case 'K':
			dst, err = p.appendLength(dst, lengthOf(m.key))
		case 'V':
			dst, err = p.appendLength(dst, lengthOf(m.value))
		case 'T':
			dst, err = p.appendLength(dst, int64(len(m.topic)))
		case 'H':
			dst, err = p.appendLength(dst, int64(len(m.headers)))
		case 'h':
			for _, h := range m.headers {
				dst, err = p.inner.appendTo(dst, &message{key: []byte(h.key), value: h.value}, count)
				if err != nil {
					break
				}
			}
		case 'p':
			dst = p.number.appendTo(dst, int64(m.partition))
		case 'o':
			dst = p.number.appendTo(dst, m.offset)
		case 'e':
			dst = p.number.appendTo(dst, int64(m.epoch))
		case 'i':
			dst = p.number.appendTo(dst, count)
		case 'd':
			dst = p.appendTime(dst, m.timestamp)
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// lengthOf is -1 for NULL.
func lengthOf(b []byte) int64 {
	if b == nil {
		return -1
	}
	return int64(len(b))
}

func (e textEncoding) appendTo(dst, src []byte) []byte {
	switch e {
	case textHex:
		return hex.AppendEncode(dst, src)
	case textBase64:
		return base64.StdEncoding.AppendEncode(dst, src)
	case textBase64Raw:
		return base64.RawStdEncoding.AppendEncode(dst, src)
	case textPlain:
	}
	return append(dst, src...)
}

// appendLength prints a length or count, and refuses one that its encoding cannot hold or would turn into the -1 of
// NULL: a length that is wrong makes all that follows unreadable.
func (p *formatPart) appendLength(dst []byte, n int64) ([]byte, error) {
	if n > p.number.max() || n < 0 && p.number == (numberEncoding{kind: numberDigits, size: 1}) {
		return dst, fmt.Errorf("a length of %d does not fit %%%c as it is encoded; use %%%c{big32} or %%%c{ascii}", n, p.verb, p.verb, p.verb)
	}
	return p.number.appendTo(dst, n), nil
}

// max is the greatest length that e can tell from NULL.
func (e numberEncoding) max() int64 {
	switch e.kind {
	case numberHex, numberBig, numberLittle:
		if e.size < 64 {
			return 1<<e.size - 2
		}
	case numberDigits:
		if e.size < 19 {
			return int64(math.Pow10(e.size)) - 1
		}
	case numberASCII, numberHexAny, numberBool:
	}
	return math.MaxInt64
}

const hexDigits = "0123456789abcdef"

// appendTo prints n, cut off to what e holds as in rpk.
func (e numberEncoding) appendTo(dst []byte, n int64) []byte {
	switch e.kind {
	case numberDigits:
		// A sign takes the place of the first zero.
		text := strconv.FormatInt(n, 10)
		sign := ""
		if text[0] == '-' {
			sign, text = "-", text[1:]
		}
		dst = append(dst, sign...)
		for range e.size - len(text) - len(sign) {
			dst = append(dst, '0')
		}
		return append(dst, text...)
	case numberHexAny:
		return strconv.AppendUint(dst, uint64(n), 16)
	case numberHex:
		for shift := e.size - 4; shift >= 0; shift -= 4 {
			dst = append(dst, hexDigits[n>>shift&15])
		}
		return dst
	case numberBig:
		for shift := e.size - 8; shift >= 0; shift -= 8 {
			dst = append(dst, byte(n>>shift))
		}
		return dst
	case numberLittle:
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		return append(dst, b[:e.size/8]...)
	case numberBool:
		return strconv.AppendBool(dst, n > 0)
	case numberASCII:
	}
	return strconv.AppendInt(dst, n, 10)
}

func (p *formatPart) appendTime(dst []byte, ms int64) []byte {
	switch p.time {
	case timeGo:
		return time.UnixMilli(ms).UTC().AppendFormat(dst, p.layout)
	case timeStrftime:
		return appendStrftime(dst, p.layout, time.UnixMilli(ms).UTC())
	case timeNumber:
	}
	return p.number.appendTo(dst, ms)
}

// strftimeLayouts are the conversions of strftime that are layouts of package time.
var strftimeLayouts = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
	'j': "002", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'z': "-0700", 'Z': "MST",
	'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006", 'r': "03:04:05 PM",
	'x': "01/02/06", 'X': "15:04:05",
}

// checkStrftime refuses conversions that appendStrftime does not know.
func checkStrftime(layout string) error {
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' {
			continue
		}
		if i++; i == len(layout) {
			return errors.New("strftime: a single % at the end")
		}
		switch c := layout[i]; c {
		case '%', 'n', 't', 's', 'L':
		default:
			if _, ok := strftimeLayouts[c]; !ok {
				return fmt.Errorf("strftime: unknown conversion %%%c", c)
			}
		}
	}
	return nil
}

func appendStrftime(dst []byte, layout string, t time.Time) []byte {
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			dst = append(dst, layout[i])
			continue
		}
		i++
		switch c := layout[i]; c {
		case '%':
			dst = append(dst, '%')
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 's':
			dst = strconv.AppendInt(dst, t.Unix(), 10)
		case 'L': // milliseconds, as Ruby and others have them
			dst = append(dst, t.Format(".000")[1:]...)
		default:
			dst = t.AppendFormat(dst, strftimeLayouts[c])
		}
	}
	return dst
}
