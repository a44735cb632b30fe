package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
)

const testDir = "/data/wal"

// entry is a frame and where it stands.
type entry struct {
	at    LSN
	frame Frame
}

// frameOf makes a frame that its number tells apart from every other.
func frameOf(number, size int) Frame {
	random := rand.New(rand.NewPCG(uint64(number), 1))
	f := Frame{Partition: int32(number), Epoch: int32(number * 7), AppendTime: int64(number) * 1000, Batch: make([]byte, size)}
	binary.BigEndian.PutUint64(f.Topic[:], uint64(number)*31)
	for p := f.Batch; len(p) > 0; {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], random.Uint64())
		p = p[copy(p, word[:]):]
	}
	return f
}

func sameFrame(a, b Frame) bool {
	return a.Topic == b.Topic && a.Partition == b.Partition && a.Epoch == b.Epoch && a.AppendTime == b.AppendTime && bytes.Equal(a.Batch, b.Batch)
}

func mustOpen(tb testing.TB, config Config) *Log {
	tb.Helper()
	l, err := Open(config)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func mustAppend(tb testing.TB, l *Log, frames ...Frame) []entry {
	tb.Helper()
	at := make([]LSN, len(frames))
	if err := l.Append(frames, at); err != nil {
		tb.Fatal(err)
	}
	out := make([]entry, len(frames))
	for n := range frames {
		out[n] = entry{at[n], frames[n]}
	}
	return out
}

func mustSync(tb testing.TB, l *Log) LSN {
	tb.Helper()
	end, err := l.Sync()
	if err != nil {
		tb.Fatal(err)
	}
	return end
}

func mustClose(tb testing.TB, l *Log) {
	tb.Helper()
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
}

func replayed(l *Log) ([]entry, error) {
	var out []entry
	err := l.Replay(func(at LSN, f Frame) error {
		f.Batch = bytes.Clone(f.Batch)
		out = append(out, entry{at, f})
		return nil
	})
	return out, err
}

// checkHolds checks that the log holds a first part of want (from its start on) which ends at or above durable, by Replay and
// by Read, and returns its length.
func checkHolds(l *Log, want []entry, durable LSN) (int, error) {
	for len(want) > 0 && want[0].at < l.Start() {
		want = want[1:]
	}
	got, err := replayed(l)
	if err != nil {
		return 0, err
	}
	if len(got) > len(want) {
		return 0, fmt.Errorf("%d frames, of which %d were written", len(got), len(want))
	}
	for n := range got {
		if got[n].at != want[n].at || !sameFrame(got[n].frame, want[n].frame) {
			return 0, fmt.Errorf("frame %d of %d is another, at %d", n, len(got), got[n].at)
		}
		f, err := l.Read(got[n].at, nil)
		if err != nil {
			return 0, err
		}
		if !sameFrame(f, got[n].frame) {
			return 0, fmt.Errorf("frame %d reads differently at %d", n, got[n].at)
		}
	}
	if l.End() < durable {
		return 0, fmt.Errorf("ends at %d, but %d was durable", l.End(), durable)
	}
	if l.Synced() < durable || l.Synced() > l.End() {
		return 0, fmt.Errorf("synced %d of %d, but %d was durable", l.Synced(), l.End(), durable)
	}
	return len(got), nil
}

// isCorruption says whether damage was reported as such.
func isCorruption(err error) bool {
	var corruption *CorruptionError
	return errors.As(err, &corruption)
}

// lastFile is the name of the file with the highest LSN.
func lastFile(tb testing.TB, fsys disk.FS) string {
	tb.Helper()
	list, err := fsys.ReadDir(testDir)
	if err != nil {
		tb.Fatal(err)
	}
	return testDir + "/" + list[len(list)-1].Name
}
