package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// requestFrame is a request as a client sends it.
func requestFrame(q kmsg.Request, version int16) []byte {
	q.SetVersion(version)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("tester")).AppendRequest(nil, q, 7)
}

// readWhole reads one frame as a connection does.
func readWhole(r io.Reader) (head, []byte, error) {
	h, err := readHead(r)
	if err != nil {
		return h, nil, err
	}
	if h.size > maxFrame(h.key) {
		return h, nil, errFrame
	}
	rest, err := readRest(r, h, func(int) error { return nil })
	return h, rest, err
}

func TestFrameComesInPieces(t *testing.T) {
	for version := range int16(5) {
		sent := requestFrame(kmsg.NewPtrApiVersionsRequest(), version)
		h, rest, err := readWhole(iotest.OneByteReader(bytes.NewReader(sent)))
		if err != nil {
			t.Fatal(err)
		}
		if h.key != 18 || h.version != version || h.correlation != 7 || h.size != len(sent)-sizeBytes {
			t.Errorf("version %d: head %+v", version, h)
		}
		if version == 0 {
			continue // kmsg's formatter leaves the client id out, which no client does
		}
		id, _, err := splitHeader(rest, version >= 3)
		if err != nil || id != "tester" {
			t.Errorf("version %d: client id %q, %v", version, id, err)
		}
	}
}

func TestFrameThatIsCutOff(t *testing.T) {
	sent := requestFrame(kmsg.NewPtrMetadataRequest(), 12)
	for n := range sent {
		_, _, err := readWhole(bytes.NewReader(sent[:n]))
		if n == 0 && !errors.Is(err, io.EOF) || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d of %d bytes: %v", n, len(sent), err)
		}
	}
}

// TestFrameThatLiesAboutItsSize: a frame costs what has arrived of it, whatever it says.
func TestFrameThatLiesAboutItsSize(t *testing.T) {
	var b [headBytes]byte
	binary.BigEndian.PutUint32(b[:], produceFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		if _, _, err := readWhole(io.MultiReader(bytes.NewReader(b[:]), strings.NewReader("a few bytes"))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 10*64<<10 {
		t.Errorf("ten frames that say 100 MiB and bring 11 bytes took %d bytes", took)
	}
	for _, size := range []uint32{0, 7, 0x80000000, 0xffffffff} {
		binary.BigEndian.PutUint32(b[:], size)
		if _, err := readHead(bytes.NewReader(b[:])); !errors.Is(err, errFrame) {
			t.Errorf("size %d: %v", int32(size), err)
		}
	}
}

func TestHeaderThatIsNone(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                  {},
		"half a length":            {0},
		"a client id that is cut":  {0, 5, 'a'},
		"no tags":                  {0xff, 0xff},
		"too many tags":            {0xff, 0xff, 65},
		"tags that are cut":        {0xff, 0xff, 2, 1},
		"a tag beyond the frame":   {0xff, 0xff, 1, 1, 200, 'a'},
		"a tag of almost 2^64":     {0xff, 0xff, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"a number that never ends": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if _, _, err := splitHeader(b, true); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if id, body, err := splitHeader([]byte{0xff, 0xff, 1, 9, 2, 'x', 'y', 'z'}, true); err != nil || id != "" || string(body) != "z" {
		t.Errorf("an unknown tag is passed over: %q %q %v", id, body, err)
	}
}

// FuzzFrame: whatever arrives, a frame is read or refused, and costs about what has arrived.
func FuzzFrame(f *testing.F) {
	f.Add(requestFrame(kmsg.NewPtrApiVersionsRequest(), 3))
	f.Add(requestFrame(kmsg.NewPtrMetadataRequest(), 12))
	f.Add([]byte{0, 0, 0, 8, 0, 18, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, sent []byte) {
		h, rest, err := readWhole(bytes.NewReader(sent))
		if err != nil {
			return
		}
		if len(rest) != h.size-8 || cap(rest) > max(firstBytes, growth*len(sent)) {
			t.Fatalf("%d bytes, %d kept, of a frame of %d", len(rest), cap(rest), h.size)
		}
		for _, flexible := range []bool{false, true} {
			if _, body, err := splitHeader(rest, flexible); err == nil && len(body) > len(rest) {
				t.Fatal("a body larger than its frame")
			}
		}
	})
}

// FuzzDecode: no body of any kind and version makes a decoder panic, or make more of it than the room for decodes is asked for.
func FuzzDecode(f *testing.F) {
	for key, a := range apis {
		for version := a.min; version <= a.max; version++ {
			q := a.request()
			q.SetVersion(version)
			f.Add(key, version, q.AppendTo(nil))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		a := apis[key]
		if a == nil || version < a.min || version > a.max {
			return
		}
		if a.skim != nil && a.skim(body, version) != nil {
			return
		}
		q := a.request()
		q.SetVersion(version)
		if err := q.ReadFrom(body); err != nil {
			return
		}
		// What was understood can be said again, and is understood then.
		again := a.request()
		again.SetVersion(version)
		if err := again.ReadFrom(q.AppendTo(nil)); err != nil {
			t.Fatalf("%s version %d: %v", a.name, version, err)
		}
	})
}

// TestDecodersAmplifyNoMoreThanIsAskedFor: the worst body for each kind is lists of elements as small as they can be.
func TestDecodersAmplifyNoMoreThanIsAskedFor(t *testing.T) {
	for _, a := range apis {
		if a.skim != nil {
			continue // its lists are counted before
		}
		for version := a.min; version <= a.max; version++ {
			for _, fill := range []byte{0, 1, 2, 0x7f} {
				body := bytes.Repeat([]byte{fill}, 8<<10)
				// Lists in flexible versions begin with their length plus one; what comes before them is as small as can be.
				for at := range 24 {
					n := binary.PutUvarint(body[at:], uint64(len(body)-at-3))
					worst := allocated(func() {
						q := a.request()
						q.SetVersion(version)
						_ = q.ReadFrom(body)
					})
					if worst > amplification*uint64(len(body)) {
						t.Errorf("%s version %d makes %d bytes of %d", a.name, version, worst, len(body))
					}
					for i := range n {
						body[at+i] = fill
					}
				}
			}
		}
	}
}

// allocated is how much memory f takes, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
