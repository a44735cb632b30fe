package tier

import (
	"fmt"
	"io"
)

// bodyReader reads slices one behind the other without joining them. It can seek, because an HTTP client may have to send
// a body again on another connection.
type bodyReader struct {
	parts [][]byte
	size  int64
	part  int // the part that holds off, or len(parts)
	in    int // position in it
	off   int64
}

func newBodyReader(parts [][]byte) *bodyReader {
	return &bodyReader{parts: parts, size: bodySize(parts)}
}

// Read implements io.Reader. It fills p as far as there is anything left, so that small batches do not become small writes.
func (r *bodyReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && r.part < len(r.parts) {
		c := copy(p[n:], r.parts[r.part][r.in:])
		n, r.in, r.off = n+c, r.in+c, r.off+int64(c)
		if r.in == len(r.parts[r.part]) {
			r.part, r.in = r.part+1, 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements io.Seeker.
func (r *bodyReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 || offset > r.size {
		return 0, fmt.Errorf("seek body to %d of %d bytes", offset, r.size)
	}
	r.part, r.in, r.off = 0, 0, offset
	for rest := offset; r.part < len(r.parts); r.part++ {
		if n := int64(len(r.parts[r.part])); rest >= n {
			rest -= n
			continue
		}
		r.in = int(rest)
		break
	}
	return offset, nil
}
