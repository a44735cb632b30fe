package record

import (
	"errors"
	"io"
	"sync"
	"unicode/utf8"
)

// windowSize is what is kept of a decompressed stream. A record that fits is checked in one piece, another one field by field.
const windowSize = 64 << 10

// stream walks records that come out of a decompressor, without keeping them.
//
// Invariant: 0 <= start <= end <= len(window); window[start:end] is decompressed and not yet looked at; total, the number of
// bytes decompressed, never exceeds limit.
type stream struct {
	walker
	src        io.Reader
	window     []byte
	start, end int
	total      int
	limit      int
	ended      bool  // src has given io.EOF
	left       int64 // bytes left in the record that is read field by field
}

var streams = sync.Pool{New: func() any { return &stream{window: make([]byte, windowSize)} }}

// fill tries to have n bytes in the window, n <= windowSize. It reports how many there are: fewer only at the end.
func (s *stream) fill(n int) (int, error) {
	if s.end-s.start >= n {
		return s.end - s.start, nil
	}
	copy(s.window, s.window[s.start:s.end])
	s.end -= s.start
	s.start = 0
	for empty := 0; s.end < n && !s.ended; {
		got, err := s.src.Read(s.window[s.end:])
		s.end += got
		s.total += got
		if s.total > s.limit {
			return 0, tooLargef("records decompress to more than the limit of %d bytes", s.limit)
		}
		if errors.Is(err, io.EOF) {
			s.ended = true
			break
		}
		if err != nil {
			return 0, decompressError(err)
		}
		if got > 0 {
			empty = 0
		} else if empty++; empty > 100 {
			return 0, decompressError(io.ErrNoProgress)
		}
	}
	return s.end - s.start, nil
}

func decompressError(err error) error {
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrTooLarge) {
		return err
	}
	return invalidf("decompress records: %w", err)
}

// walk checks count records that are all of the stream.
func (s *stream) walk(count int) error {
	for s.n < count {
		have, err := s.fill(10)
		if err != nil {
			return err
		}
		if have == 0 {
			return s.fail(badEnd)
		}
		length, next := varint(s.window[:s.end], s.start)
		if next < 0 {
			return s.fail(badField)
		}
		if length < 0 || length > int64(s.limit) {
			return s.fail(badLength)
		}
		s.start = next
		if length > windowSize {
			if err := s.long(length); err != nil {
				return err
			}
			continue
		}
		have, err = s.fill(int(length))
		if err != nil {
			return err
		}
		if have < int(length) {
			return s.fail(badLength)
		}
		if bad := s.body(s.window[s.start : s.start+int(length)]); bad != "" {
			return s.fail(bad)
		}
		s.start += int(length)
	}
	have, err := s.fill(1)
	if err != nil {
		return err
	}
	if have > 0 {
		return invalidf("bytes after the last record")
	}
	return nil
}

// long checks a record that is longer than the window, as walker.body does for the others.
func (s *stream) long(length int64) error {
	s.left = length
	if err := s.skip(1, badField); err != nil { // attributes
		return err
	}
	v, err := s.number()
	if err != nil {
		return err
	}
	if !s.timestamp(v) {
		return s.fail(badTime)
	}
	if v, err = s.number(); err != nil {
		return err
	}
	if v != int64(s.n) {
		return s.fail(badOffset)
	}
	for _, bad := range [2]string{badKey, badValue} {
		if v, err = s.number(); err != nil {
			return err
		}
		if v < -1 {
			return s.fail(bad)
		}
		if err := s.skip(max(v, 0), bad); err != nil {
			return err
		}
	}
	n, err := s.number()
	if err != nil {
		return err
	}
	if n < 0 || n > s.left/2 {
		return s.fail(badHeaders)
	}
	for range n {
		if v, err = s.number(); err != nil {
			return err
		}
		if v < 0 {
			return s.fail(badHeaders)
		}
		if err := s.text(v); err != nil {
			return err
		}
		if v, err = s.number(); err != nil {
			return err
		}
		if v < -1 {
			return s.fail(badHeaders)
		}
		if err := s.skip(max(v, 0), badHeaders); err != nil {
			return err
		}
	}
	if s.left != 0 {
		return s.fail(badRest)
	}
	s.n++
	return nil
}

// number reads a varint inside the record.
func (s *stream) number() (int64, error) {
	have, err := s.fill(10)
	if err != nil {
		return 0, err
	}
	have = int(min(int64(have), s.left))
	v, next := varint(s.window[:s.start+have], s.start)
	if next < 0 {
		return 0, s.fail(badField)
	}
	s.left -= int64(next - s.start)
	s.start = next
	return v, nil
}

// skip passes over n bytes of the record.
func (s *stream) skip(n int64, bad string) error {
	if n > s.left {
		return s.fail(bad)
	}
	s.left -= n
	for n > 0 {
		have, err := s.fill(1)
		if err != nil {
			return err
		}
		if have == 0 {
			return s.fail(bad)
		}
		step := min(int64(have), n)
		s.start += int(step)
		n -= step
	}
	return nil
}

// text passes over n bytes of the record that must be UTF-8.
func (s *stream) text(n int64) error {
	if n > s.left {
		return s.fail(badHeaders)
	}
	for n > 0 {
		have, err := s.fill(int(min(n, windowSize)))
		if err != nil {
			return err
		}
		if have == 0 {
			return s.fail(badHeaders)
		}
		p := s.window[s.start : s.start+int(min(int64(have), n))]
		whole := len(p)
		if int64(whole) < n { // more is to come: leave a character that is cut at the end for the next round
			for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
				if c := p[len(p)-back]; utf8.RuneStart(c) {
					if !utf8.FullRune(p[len(p)-back:]) {
						whole -= back
					}
					break
				}
			}
		}
		if whole == 0 || !utf8.Valid(p[:whole]) {
			return s.fail(badHeaderKey)
		}
		s.start += whole
		s.left -= int64(whole)
		n -= int64(whole)
	}
	return nil
}

// walkCompressed checks the records of a compressed batch and returns the walker's findings.
func walkCompressed(codec Codec, p []byte, first int64, count, limit int) (walker, error) {
	d := decompressors.Get().(*decompressor) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	defer d.release()
	r, err := d.open(codec, p, limit)
	if err != nil {
		return walker{}, err
	}
	s := streams.Get().(*stream) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	s.walker, s.src, s.start, s.end, s.total, s.limit, s.ended = walker{first: first}, r, 0, 0, 0, limit, false
	err = s.walk(count)
	if err == nil && d.src.Len() > 0 && codec != Snappy {
		err = invalidf("%d bytes after the end of the %s stream", d.src.Len(), codec)
	}
	w := s.walker
	s.src = nil
	streams.Put(s)
	return w, err
}
