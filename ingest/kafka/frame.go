package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A frame is one request, as it is on the wire:
//
//	 0       4       6       8         12
//	┌───────┬───────┬───────┬─────────┬───────────┬──────────┬──────┐
//	│ size  │ key   │version│correla- │ client id │ tags     │ body │
//	│ int32 │ int16 │ int16 │ tion    │ nullable  │ flexible │      │
//	│       │       │       │ int32   │ string    │ versions │      │
//	└───────┴───────┴───────┴─────────┴───────────┴──────────┴──────┘
//	         └──────────────── size bytes ─────────────────────────┘
//
// (Kafka's protocol guide, "Request Header v1" and "v2"; KIP-482 for tags.)
const (
	sizeBytes = 4
	// headBytes are read before anything is known of a request: size, key, version and correlation id.
	headBytes = sizeBytes + 8
	// firstBytes of a frame are taken without asking for room.
	firstBytes = 4 << 10
	// growth is how many times the bytes that have arrived a frame may take in memory, and firstGrowth how many times firstBytes: it makes little of
	// frames that are begun only. Less would copy large frames more often.
	growth      = 16
	firstGrowth = 4
	// maxHeaderTags caps the tags of a request's header; none is known.
	maxHeaderTags = 64
)

// head is the fixed part of a request's header.
type head struct {
	size        int // of what follows the size itself
	key         int16
	version     int16
	correlation int32
}

// errFrame ends a connection whose bytes cannot be a request.
var errFrame = errors.New("no request of Kafka's protocol")

// readHead reads the fixed part. io.EOF when the client has closed between two requests.
func readHead(r io.Reader) (head, error) {
	var b [headBytes]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return head{}, err //nolint:wrapcheck // io.EOF is an answer
	}
	if _, err := io.ReadFull(r, b[1:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return head{}, fmt.Errorf("read a request's header: %w", err)
	}
	h := head{
		size: int(int32(binary.BigEndian.Uint32(b[:]))), key: int16(binary.BigEndian.Uint16(b[4:])),
		version: int16(binary.BigEndian.Uint16(b[6:])), correlation: int32(binary.BigEndian.Uint32(b[8:])),
	}
	if h.size < headBytes-sizeBytes {
		return head{}, fmt.Errorf("%w: a frame of %d bytes", errFrame, h.size)
	}
	return h, nil
}

// readRest reads what follows the head. Memory grows with what has arrived, by growth at most. Beyond firstBytes progress is called before there is
// more memory, with how much there will be, and for each receiveStep that has come, with 0; it may wait or refuse.
func readRest(r io.Reader, h head, progress func(memory int) error) ([]byte, error) {
	left := h.size - (headBytes - sizeBytes)
	b := make([]byte, 0, min(left, firstBytes))
	for told := 0; len(b) < left; {
		switch {
		case len(b) == cap(b):
			memory := min(left, growth*cap(b))
			if cap(b) == firstBytes {
				memory = min(left, firstGrowth*firstBytes)
			}
			if err := progress(memory); err != nil {
				return nil, err
			}
			grown := make([]byte, len(b), memory)
			copy(grown, b)
			b, told = grown, len(b)
		case len(b)-told >= receiveStep:
			if err := progress(0); err != nil {
				return nil, err
			}
			told = len(b)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil && len(b) < left {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read a request of %d bytes: %w", h.size, err)
		}
	}
	return b, nil
}

// splitHeader takes client id and tags off what follows the head. The client id is a copy.
func splitHeader(b []byte, flexible bool) (clientID string, body []byte, err error) {
	if len(b) < 2 {
		return "", nil, fmt.Errorf("%w: the header is cut off", errFrame)
	}
	length := int(int16(binary.BigEndian.Uint16(b)))
	b = b[2:]
	if length > 0 {
		if length > len(b) {
			return "", nil, fmt.Errorf("%w: the client id is cut off", errFrame)
		}
		clientID, b = cutClientID(string(b[:length])), b[length:]
	}
	if !flexible {
		return clientID, b, nil
	}
	tags, n := binary.Uvarint(b)
	if n <= 0 || tags > maxHeaderTags {
		return "", nil, fmt.Errorf("%w: the header's tags", errFrame)
	}
	b = b[n:]
	for range tags {
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return "", nil, fmt.Errorf("%w: the header's tags are cut off", errFrame)
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return "", nil, fmt.Errorf("%w: a tag of the header is cut off", errFrame)
		}
		b = b[n+int(size):]
	}
	return clientID, b, nil
}

// maxClientID is how much of a client id is kept: it is for people.
const maxClientID = 255

func cutClientID(id string) string {
	id = strings.ToValidUTF8(id, "?")
	if len(id) > maxClientID {
		id = strings.ToValidUTF8(id[:maxClientID], "")
	}
	return id
}
