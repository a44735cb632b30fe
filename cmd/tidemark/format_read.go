package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// formatReader reads messages in a format. After an error it is of no further use.
type formatReader struct {
	format format
	in     *bufio.Reader
	limit  int   // bytes that one message may have
	count  int64 // messages begun
	size   int   // bytes of the present message
}

// newFormatReader reads from in, and refuses messages of more than limit bytes before it takes memory for them. It
// fails when the format cannot be read back without guessing.
func newFormatReader(f format, in io.Reader, limit int) (*formatReader, error) {
	if err := f.checkReadable(""); err != nil {
		return nil, err
	}
	return &formatReader{format: f, in: bufio.NewReaderSize(in, 256<<10), limit: limit}, nil
}

// checkReadable verifies that every part says where it ends. sized holds the length verbs that came before.
func (f format) checkReadable(sized string) error {
	for i := range f {
		p := &f[i]
		var next *formatPart
		if i+1 < len(f) {
			next = &f[i+1]
		}
		switch p.verb {
		case 0:
		case 'k', 'v', 't':
			if strings.IndexByte(sized, p.verb-'a'+'A') < 0 && next != nil && next.verb != 0 {
				return fmt.Errorf("cannot read %%%c, as nothing says where it ends: put %%%c before it or text behind it", p.verb, p.verb-'a'+'A')
			}
		case 'h':
			if strings.IndexByte(sized, 'H') < 0 {
				return errors.New("cannot read %h, as nothing says how many headers there are: put %H before it")
			}
			if err := p.inner.checkHeaderReadable(); err != nil {
				return err
			}
		default:
			if err := p.checkNumberReadable(next); err != nil {
				return err
			}
			sized += string(p.verb)
		}
	}
	return nil
}

// checkHeaderReadable is checkReadable inside %h{}: the last verb there cannot rest on the end of the input.
func (f format) checkHeaderReadable() error {
	if err := f.checkReadable(""); err != nil {
		return fmt.Errorf("inside %%h{}: %w", err)
	}
	if len(f) == 0 {
		return errors.New("%h{} is empty")
	}
	last := f[len(f)-1]
	if last.verb == 0 {
		return nil
	}
	if last.verb == 'k' || last.verb == 'v' {
		for _, p := range f {
			if p.verb == last.verb-'a'+'A' {
				return nil
			}
		}
		return fmt.Errorf("inside %%h{}: cannot read %%%c, as nothing says where it ends", last.verb)
	}
	return nil
}

func (p *formatPart) checkNumberReadable(next *formatPart) error {
	switch {
	case p.time != timeNumber:
		return errors.New("cannot read %d in a calendar's form; only numbers can be read: %d")
	case p.number.kind == numberHexAny:
		return fmt.Errorf("cannot read %%%c{hex}, as nothing says where it ends: use %%%c{hex32}", p.verb, p.verb)
	case p.number.kind == numberASCII && next != nil && (next.verb != 0 || isDigit(next.literal[0])):
		return fmt.Errorf("cannot read %%%c, as the digits may go on behind it: put a space behind it", p.verb)
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// readLengths are the lengths that a message, or one of its headers, told so far. unsized marks those not told.
type readLengths struct{ key, value, topic, headers int64 }

const unsized = math.MinInt64

// next reads one message. At the end of the input it returns io.EOF; any other error names the message. The slices of m
// belong to the caller.
func (r *formatReader) next(m *message) error {
	*m = message{partition: -1}
	r.size = 0
	if _, err := r.in.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read input: %w", err)
	}
	r.count++
	if err := r.parts(r.format, m, true); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the input ends inside it")
		}
		return fmt.Errorf("record %d: %w", r.count, err)
	}
	return nil
}

// parts reads the parts of f into m. last says that the input may end where f ends.
func (r *formatReader) parts(f format, m *message, last bool) error {
	lengths := readLengths{unsized, unsized, unsized, unsized}
	for i := 0; i < len(f); i++ {
		p := &f[i]
		switch p.verb {
		case 0:
			if err := r.literal(p.literal, last && i == len(f)-1); err != nil {
				return err
			}
		case 'k', 'v', 't':
			length := lengths.key
			switch p.verb {
			case 'v':
				length = lengths.value
			case 't':
				length = lengths.topic
			}
			text, delimited, err := r.text(f, i, length, last)
			if err != nil {
				return fmt.Errorf("%%%c: %w", p.verb, err)
			}
			if delimited {
				i++ // the literal behind it is read as well
			}
			switch p.verb {
			case 'k':
				m.key = text
			case 'v':
				m.value = text
			}
		case 'h':
			for range max(lengths.headers, 0) {
				var h message
				// A header takes memory though it may have no bytes. In a record its two lengths take two bytes at least.
				if err := r.charge(2); err != nil {
					return err
				}
				if err := r.parts(p.inner, &h, false); err != nil {
					return fmt.Errorf("header: %w", err)
				}
				m.headers = append(m.headers, messageHeader{key: string(h.key), value: h.value})
			}
		default:
			n, err := r.number(p.number)
			if err != nil {
				return fmt.Errorf("%%%c: %w", p.verb, err)
			}
			if err := m.take(p.verb, n, &lengths); err != nil {
				return err
			}
		}
	}
	return nil
}

// take stores a number that was read.
func (m *message) take(verb byte, n int64, lengths *readLengths) error {
	if n < -1 && strings.IndexByte("KVTH", verb) >= 0 {
		return fmt.Errorf("%%%c: %d is no length", verb, n)
	}
	switch verb {
	case 'K':
		lengths.key = n
	case 'V':
		lengths.value = n
	case 'T':
		lengths.topic = n
	case 'H':
		lengths.headers = n
	case 'p':
		if n < 0 || n > math.MaxInt32 {
			return fmt.Errorf("%%p: %d is no partition", n)
		}
		m.partition = int32(n)
	case 'd':
		m.timestamp = n
	}
	return nil
}

// charge counts n bytes of the present message against the limit.
func (r *formatReader) charge(n int64) error {
	if n > int64(r.limit-r.size) {
		return fmt.Errorf("it is larger than %d bytes", r.limit)
	}
	r.size += int(n)
	return nil
}

// literal reads exactly want. At the end of a format the input may end before it.
func (r *formatReader) literal(want []byte, mayEnd bool) error {
	got, err := r.in.Peek(len(want))
	if len(got) == 0 && mayEnd && errors.Is(err, io.EOF) {
		return nil
	}
	if len(got) < len(want) && err != nil && bytes.HasPrefix(want, got) {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the format wants %q, the input has %q", want, got)
	}
	_, err = r.in.Discard(len(want))
	return err
}

// text reads the verb f[i]: by its length, or else up to the literal behind it, which it reads as well, or else to the
// end of the input.
func (r *formatReader) text(f format, i int, length int64, last bool) (text []byte, delimited bool, err error) {
	if length == -1 {
		return nil, false, nil
	}
	var raw []byte
	switch {
	case length >= 0:
		raw, err = r.exactly(f[i].text.encodedLen(length))
	case i+1 < len(f):
		delimited = true
		raw, err = r.until(f[i+1].literal, last && i+2 == len(f))
	default:
		raw, err = r.until(nil, true)
	}
	if err != nil {
		return nil, delimited, err
	}
	text, err = f[i].text.decode(raw)
	return text, delimited, err
}

// exactly reads n bytes. It never returns nil: nil is NULL.
func (r *formatReader) exactly(n int64) ([]byte, error) {
	if err := r.charge(n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, io.EOF
	}
	return b, nil
}

// until reads up to the delimiter and drops it; an empty one stands for the end of the input, which also serves when
// mayEnd is set.
func (r *formatReader) until(delimiter []byte, mayEnd bool) ([]byte, error) {
	text := []byte{}
	for {
		var piece []byte
		var err error
		if len(delimiter) == 0 {
			piece, err = r.in.Peek(max(1, r.in.Buffered()))
			if n, discardErr := r.in.Discard(len(piece)); discardErr != nil || n < len(piece) {
				return nil, discardErr
			}
		} else {
			piece, err = r.in.ReadSlice(delimiter[len(delimiter)-1])
		}
		text = append(text, piece...)
		if len(delimiter) > 0 && bytes.HasSuffix(text, delimiter) {
			text = text[:len(text)-len(delimiter)]
			return text, r.charge(int64(len(text)))
		}
		if len(text) > r.limit-r.size+len(delimiter) {
			return nil, fmt.Errorf("it is larger than %d bytes", r.limit)
		}
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && mayEnd:
			return text, r.charge(int64(len(text)))
		default:
			return nil, err
		}
	}
}

// encodedLen is the count of bytes that n plain bytes have in e.
func (e textEncoding) encodedLen(n int64) int64 {
	if n > math.MaxInt32 {
		return n // beyond every limit anyway
	}
	switch e {
	case textHex:
		return int64(hex.EncodedLen(int(n)))
	case textBase64:
		return int64(base64.StdEncoding.EncodedLen(int(n)))
	case textBase64Raw:
		return int64(base64.RawStdEncoding.EncodedLen(int(n)))
	case textPlain:
	}
	return n
}

// decode returns the plain bytes of b, never nil. It may use b.
func (e textEncoding) decode(b []byte) ([]byte, error) {
	var err error
	switch e {
	case textHex:
		b, err = hex.AppendDecode([]byte{}, b)
	case textBase64:
		b, err = base64.StdEncoding.AppendDecode([]byte{}, b)
	case textBase64Raw:
		b, err = base64.RawStdEncoding.AppendDecode([]byte{}, b)
	case textPlain:
	}
	return b, err
}

// number reads a number. All bits set is -1.
func (r *formatReader) number(e numberEncoding) (int64, error) {
	switch e.kind {
	case numberDigits:
		b, err := r.exactly(int64(e.size))
		if err != nil {
			return 0, err
		}
		return parseDecimal(string(b))
	case numberHex:
		b, err := r.exactly(int64(e.size) / 4)
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseUint(string(b), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no hexadecimal number", b)
		}
		return signed(n, e.size), nil
	case numberBig, numberLittle:
		b, err := r.exactly(int64(e.size) / 8)
		if err != nil {
			return 0, err
		}
		var wide [8]byte
		if e.kind == numberBig {
			copy(wide[8-len(b):], b)
			return signed(binary.BigEndian.Uint64(wide[:]), e.size), nil
		}
		copy(wide[:], b)
		return signed(binary.LittleEndian.Uint64(wide[:]), e.size), nil
	case numberBool:
		return r.bool()
	case numberASCII, numberHexAny: // the second was refused by checkNumberReadable
	}
	return r.decimal()
}

// signed makes all bits set -1 and leaves the rest, as 255 of eight bits is a NULL's length and 254 a length.
func signed(n uint64, bits int) int64 {
	if bits < 64 && n == 1<<bits-1 {
		return -1
	}
	return int64(n)
}

func parseDecimal(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || s[0] == '+' {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return n, nil
}

func (r *formatReader) bool() (int64, error) {
	b, err := r.in.Peek(4)
	if err != nil {
		return 0, err
	}
	if string(b) == "true" {
		_, err := r.in.Discard(4)
		return 1, err
	}
	if b, err = r.in.Peek(5); err != nil {
		return 0, err
	}
	if string(b) != "false" {
		return 0, fmt.Errorf("%q is neither true nor false", b)
	}
	_, err = r.in.Discard(5)
	return 0, err
}

// decimal reads an optional minus and digits, as many as there are.
func (r *formatReader) decimal() (int64, error) {
	var text [20]byte
	n := 0
	for {
		c, err := r.in.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && n > 0 {
				break
			}
			return 0, err
		}
		if !isDigit(c) && (c != '-' || n > 0) {
			if err := r.in.UnreadByte(); err != nil {
				return 0, err
			}
			break
		}
		if n == len(text) {
			return 0, fmt.Errorf("%q… is too long a number", text[:n])
		}
		text[n] = c
		n++
	}
	if n == 0 {
		next, err := r.in.Peek(1)
		if err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%q is no number", next)
	}
	return parseDecimal(string(text[:n]))
}
