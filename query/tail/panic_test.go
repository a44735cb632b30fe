package tail

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/record"
)

// bomb is a bug that shows once when it was armed.
type bomb struct{ armed atomic.Bool }

func (b *bomb) tick() {
	if b.armed.CompareAndSwap(true, false) {
		panic("boom")
	}
}

type bombMemory struct {
	memory.Allocator
	*bomb
}

func (b bombMemory) Allocate(n int) []byte { b.tick(); return b.Allocator.Allocate(n) }

type bombLog struct {
	Log

	poll, records *bomb
}

func (b bombLog) Open(topic Topic, from map[int32]int64) (Reader, error) {
	r, err := b.Log.Open(topic, from)
	return bombReader{r, b}, err
}

type bombReader struct {
	Reader

	log bombLog
}

func (b bombReader) Poll(ctx context.Context) (Piece, error) {
	b.log.poll.tick()
	piece, err := b.Reader.Poll(ctx)
	return Piece{Partition: piece.Partition, Next: piece.Next, Records: b.with(piece.Records)}, err
}

func (b bombReader) with(records iter.Seq2[record.Record, error]) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		b.log.records.tick()
		records(yield)
	}
}

type bombDisk struct {
	disk.FS
	*bomb
}

func (b bombDisk) Create(name string) (disk.File, error) {
	f, err := b.FS.Create(name)
	return bombFile{f, b.bomb}, err
}

type bombFile struct {
	disk.File
	*bomb
}

func (b bombFile) WriteAt(p []byte, at int64) (int, error) { b.tick(); return b.File.WriteAt(p, at) }

// TestPanics: a bug that some record brings to light, wherever that is, ends the topic's tail by name and nothing else; the next query begins
// anew. The log says where it was, once.
func TestPanics(t *testing.T) {
	for _, where := range []string{"poll", "records", "scan", "write"} {
		t.Run(where, func(t *testing.T) {
			bombs := map[string]*bomb{"poll": {}, "records": {}, "scan": {}, "write": {}}
			var log bytes.Buffer
			var fake Log
			w := newWorld(t, func(c *Config) {
				small(c)
				c.runBytes = 256 << 10
				fake = c.Log
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
				c.Log = bombLog{c.Log, bombs["poll"], bombs["records"]}
				c.Memory = bombMemory{c.Memory, bombs["scan"]}
				c.FS = bombDisk{c.FS, bombs["write"]}
			})
			w.sampled().log = fake.(*fakeLog)
			w.log.create("orders", 1)
			w.log.create("other", 1)
			w.log.write("orders", 0, orders(0, 100)...)
			if where == "write" {
				w.log.write("orders", 0, orders(0, 12_000)...)
			}
			w.log.write("other", 0, orders(0, 100)...)
			other := w.snapshot("other")
			var err error
			switch where {
			case "scan": // of a column that not every chunk has
				w.snapshot("orders").Release()
				w.log.write("orders", 0, `{"new":1}`)
				s := w.snapshot("orders")
				column := s.Schema().Arrow().FieldIndices("new")
				scan, serr := s.Scan(column)
				if serr != nil {
					t.Fatal(serr)
				}
				bombs[where].armed.Store(true)
				for err == nil {
					rec, nerr := scan.Next(t.Context())
					if err = nerr; err == nil {
						rec.Release()
					}
				}
				scan.Close()
				s.Release()
				if errors.Is(err, io.EOF) {
					t.Fatal("nothing was made anew for the scan")
				}
			default:
				bombs[where].armed.Store(true)
				_, err = w.store.Snapshot(t.Context(), w.log.topic("orders"), w.log.ends("orders"), nil)
			}
			if bug, ok := errors.AsType[*PanicError](err); !ok || bug.Topic != "orders" || bug.Cause != "boom" {
				t.Fatalf("%v", err)
			}
			s := w.snapshot("orders")
			w.check(s, "orders")
			s.Release()
			w.check(other, "other")
			other.Release()
			if n := strings.Count(log.String(), "panic_test.go"); n == 0 || strings.Count(log.String(), "stack=") != 1 {
				t.Errorf("the log is %s", log.String())
			}
		})
	}
}
