package tail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/record"
)

// TestCatchUp: a log that is there already is read as a whole, with all that records may have.
func TestCatchUp(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 3)
	for i := range 10 {
		w.log.write("orders", int32(i%3), orders(i*1000, 1000)...)
	}
	w.log.append("orders", 1,
		record.Record{Timestamp: -1},
		record.Record{Timestamp: 5, Key: []byte{}, Value: []byte{}},
		record.Record{Timestamp: 6, Key: []byte{0xff}, Value: []byte("\xff\xfe")},
		record.Record{Timestamp: -7, Value: []byte(`{"a":1}`), Headers: []record.Header{{Key: "h"}, {Key: "", Value: []byte{}}, {Key: "h", Value: []byte{1, 2}}}},
		record.Record{Timestamp: 1 << 62, Value: []byte("null")},
	)
	s := w.snapshot("orders")
	defer s.Release()
	w.check(s, "orders")
	if !maps.Equal(s.Position(), w.log.ends("orders")) {
		t.Errorf("position %v, the log ends at %v", s.Position(), w.log.ends("orders"))
	}
}

// TestEmptyTopic: nothing is a fine answer, and needs no waiting.
func TestEmptyTopic(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("empty", 2)
	s := w.snapshot("empty")
	defer s.Release()
	w.check(s, "empty")
	if s.Rows() != 0 || len(s.Position()) != 2 {
		t.Errorf("%d rows, position %v", s.Rows(), s.Position())
	}
}

// TestEveryRecordAtOnce: a query after every record sees it, and its predecessors stay in few chunks.
func TestEveryRecordAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 2)
	var before *Snapshot
	for i := range 300 {
		w.log.write("orders", int32(i%2), order(i))
		s := w.snapshot("orders")
		if s.Rows() != int64(i+1) {
			t.Fatalf("%d rows after %d records", s.Rows(), i+1)
		}
		if chunks := len(s.young); chunks > 2*9 {
			t.Fatalf("%d rows of 2 partitions are in %d chunks", i+1, chunks)
		}
		if i == 150 {
			before = s // it must not change
			continue
		}
		s.Release()
	}
	w.check(before, "orders")
	before.Release()
	s := w.snapshot("orders")
	w.check(s, "orders")
	s.Release()
}

// TestNeighbours: merging keeps few young chunks, and no chunk has more rows than it may.
func TestNeighbours(t *testing.T) {
	for _, step := range []int{1, 3, 100, 700, 1500, 2048} {
		var young []size
		merged, rows := 0, 0
		for range 20_000 / step {
			young = append(young, size{rows: step, bytes: int64(step)})
			rows += step
			for again := true; again && len(young) > 0; {
				n := len(young)
				last := young[n-1]
				before := last
				if n > 1 {
					before = young[n-2]
				}
				switch neighbours(n, before, last) {
				case keep:
					again = false
				case merge:
					young = append(young[:n-2], size{rows: before.rows + last.rows, bytes: before.bytes + last.bytes})
					merged += before.rows + last.rows
				case freeze:
					young = young[n-1:]
					again = false
				case freezeAll:
					young, again = nil, false
				}
			}
			total := 0
			for _, c := range young {
				if total += c.rows; c.rows > column.MaxRows {
					t.Fatalf("a chunk of %d rows", c.rows)
				}
			}
			if len(young) > 12 || total >= 2*column.MaxRows {
				t.Fatalf("%d young chunks of %d rows", len(young), total)
			}
		}
		if merged > 12*rows {
			t.Errorf("in steps of %d, %d rows were merged %d times", step, rows, merged)
		}
	}
}

// TestWaitsForPosition: a snapshot is not given before its position is reached, then at once.
func TestWaitsForPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 2)
		w.log.write("orders", 0, orders(0, 10)...)
		given := make(chan *Snapshot)
		go func() {
			s, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), map[int32]int64{0: 10, 1: 5}, nil)
			if err != nil {
				t.Error(err)
			}
			given <- s
		}()
		w.snapshot("orders").Release() // what is there is reached
		w.log.write("orders", 1, orders(0, 4)...)
		synctest.Wait()
		select {
		case <-given:
			t.Fatal("a snapshot was given too early")
		default:
		}
		w.log.skip("orders", 1, 7) // offsets without records count
		s := <-given
		defer s.Release()
		if s.Rows() != 14 || s.Position()[1] != 11 {
			t.Errorf("%d rows, position %v", s.Rows(), s.Position())
		}
		w.check(s, "orders")
	})
}

// TestGivesUp: whoever waits in vain learns how far the tail is, and the tail goes on.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 12)
		w.log.write("orders", 3, orders(0, 10)...)
		w.snapshot("orders").Release()
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		failed := make(chan error)
		wanted := map[int32]int64{3: 25}
		for n := range int32(11) {
			wanted[n+20] = 1
		}
		go func() {
			_, err := w.store.Snapshot(ctx, w.log.topic("orders"), wanted, nil)
			failed <- err
		}()
		synctest.Wait()
		cancel(enough)
		err := <-failed
		lag, ok := errors.AsType[*LagError](err)
		if !ok || !errors.Is(err, enough) || len(lag.Partitions) != 12 {
			t.Fatalf("%v", err)
		}
		for _, say := range []string{`topic "orders"`, "enough", "partition 3 is at offset 10 of 25", "and 4 partitions more"} {
			if !strings.Contains(err.Error(), say) {
				t.Errorf("%q is not in: %v", say, err)
			}
		}
		w.log.write("orders", 3, orders(0, 10)...)
		s := w.snapshot("orders")
		defer s.Release()
		w.check(s, "orders")
	})
}

// TestTopicGrows: partitions that a position or the topic names are added, and nothing is read twice.
func TestTopicGrows(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 3000)...)
	small := w.log.topic("orders")
	w.snapshot("orders").Release()
	w.log.write("orders", 2, orders(0, 10)...)
	s, err := w.store.Snapshot(t.Context(), small, map[int32]int64{2: 10}, nil) // the caller knows a position, not yet the topic
	if err != nil {
		t.Fatal(err)
	}
	w.check(s, "orders")
	s.Release()
	w.log.write("orders", 0, orders(3000, 10)...)
	s = w.snapshot("orders")
	defer s.Release()
	w.check(s, "orders")
	if got := w.log.opens(); len(got) < 2 || got[1][0] != 3000 || got[1][2] != 0 {
		t.Errorf("opened at %v", got)
	}
}

// TestReaderTrouble: what may pass is waited out, and told to those who give up; what does not ends the tail by name, and the next
// one begins anew.
func TestReaderTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 1)
		away := &client.Error{Code: connect.CodeUnavailable, Reason: client.ReasonUnreachable, Message: "no answer from http://node:8640", Retryable: true}
		w.log.change("orders", func(f *fakeTopic) { f.once = []error{away, away, away} })
		w.log.write("orders", 0, orders(0, 10)...)
		s := w.snapshot("orders")
		w.check(s, "orders")
		s.Release()

		w.log.change("orders", func(f *fakeTopic) { f.failure = away })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := w.store.Snapshot(ctx, w.log.topic("orders"), map[int32]int64{0: 11}, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer from") {
			t.Errorf("%v", err)
		}

		gone := &client.Error{Code: connect.CodeNotFound, Reason: client.ReasonUnknownTopic, Message: `there is no topic "orders"`}
		w.log.change("orders", func(f *fakeTopic) { f.failure = gone })
		sleep(10 * time.Second) // the pause between two attempts
		synctest.Wait()
		w.log.change("orders", func(f *fakeTopic) { f.failure = nil; f.stalled = true })
		if n := len(w.store.Stats()); n != 0 {
			t.Errorf("%d tails of a topic that is gone", n)
		}
		failed := make(chan error, 1)
		go func() {
			_, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), map[int32]int64{0: 10}, nil)
			failed <- err
		}()
		synctest.Wait()
		w.log.change("orders", func(f *fakeTopic) { f.failure = gone })
		err = <-failed
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != client.ReasonUnknownTopic || !client.IsNotFound(err) {
			t.Errorf("%v", err)
		}

		w.log.change("orders", func(f *fakeTopic) { f.failure = nil; f.stalled = false })
		s = w.snapshot("orders")
		defer s.Release()
		w.check(s, "orders")
	})
}

// TestCorruptLog: a batch that cannot be decoded ends the tail with the log's own words.
func TestCorruptLog(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 10)...)
	corrupt := &client.Error{Code: connect.CodeDataLoss, Reason: client.ReasonCorruptData, Message: "decode batch at offset 10"}
	w.log.change("orders", func(f *fakeTopic) {
		f.pieces[0] = append(f.pieces[0], fakePiece{from: 10, next: 20, bad: corrupt})
		f.ends[0] = 20
	})
	_, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), map[int32]int64{0: 20}, nil)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != client.ReasonCorruptData || !strings.Contains(err.Error(), "partition 0 behind offset 10") {
		t.Errorf("%v", err)
	}
}

// TestOutOfRange: when what comes next was deleted, what is there is read from its beginning, and nobody notices.
func TestOutOfRange(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 10)...)
	w.snapshot("orders").Release()
	w.log.change("orders", func(f *fakeTopic) {
		f.pieces[0] = []fakePiece{{from: 0, next: 100}}
		f.ends[0] = 100
		f.once = []error{&client.Error{Code: connect.CodeOutOfRange, Reason: client.ReasonOffsetOutOfRange}}
	})
	s := w.snapshot("orders")
	defer s.Release()
	if s.Rows() != 0 || s.Position()[0] != 100 {
		t.Errorf("%d rows at %v", s.Rows(), s.Position())
	}
}

// TestOutOfRangeAgain: when that never ends it is told by name, and not tried without a pause.
func TestOutOfRangeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 1)
		w.log.change("orders", func(f *fakeTopic) {
			f.failure = &client.Error{Code: connect.CodeOutOfRange, Reason: client.ReasonOffsetOutOfRange, Message: "offset 5 was deleted"}
		})
		begin := clock.System().Now()
		_, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), map[int32]int64{0: 1}, nil)
		deleted, ok := errors.AsType[*RangeError](err)
		if !ok || deleted.Topic != "orders" || strings.Contains(err.Error(), errRebuild.Error()) || !strings.Contains(err.Error(), "offset 5 was deleted") {
			t.Errorf("%v", err)
		}
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != client.ReasonOffsetOutOfRange {
			t.Errorf("%v", err)
		}
		if took := clock.System().Now().Sub(begin); took < time.Second || took > 5*time.Second || len(w.log.opens()) != mostRebuilds+1 {
			t.Errorf("%d readers in %v", len(w.log.opens()), took)
		}
	})
}

// TestDrop: who waits is told, memory is given back, snapshots stay valid, the next query begins anew.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 1)
		w.log.write("orders", 0, orders(0, 5000)...)
		held := w.snapshot("orders")
		failed := make(chan error)
		go func() {
			_, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), map[int32]int64{0: 6000}, nil)
			failed <- err
		}()
		w.snapshot("orders").Release()
		synctest.Wait()
		w.store.Drop("id-orders")
		w.store.Drop("id-nobody")
		if err := <-failed; !errors.Is(err, ErrDropped) {
			t.Errorf("%v", err)
		}
		w.check(held, "orders")
		held.Release()
		s := w.snapshot("orders")
		w.check(s, "orders")
		s.Release()
	})
}

// TestIdle: a tail that nobody asks for is dropped, but not while somebody reads from it.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.IdleAfter = 10 * time.Minute })
		w.log.create("orders", 1)
		w.log.write("orders", 0, orders(0, 5000)...)
		s := w.snapshot("orders")
		sleep(time.Hour)
		synctest.Wait()
		if n := len(w.store.Stats()); n != 1 {
			t.Fatalf("%d tails while a snapshot is held", n)
		}
		w.check(s, "orders")
		s.Release()
		sleep(9 * time.Minute)
		w.snapshot("orders").Release()
		sleep(9 * time.Minute)
		synctest.Wait()
		if n := len(w.store.Stats()); n != 1 {
			t.Fatalf("%d tails 9 minutes after the last query", n)
		}
		sleep(20 * time.Minute)
		synctest.Wait()
		if n := len(w.store.Stats()); n != 0 || w.mem.CurrentAlloc() != 0 {
			t.Errorf("%d tails and %d bytes long after the last query", n, w.mem.CurrentAlloc())
		}
		s = w.snapshot("orders")
		w.check(s, "orders")
		s.Release()
	})
}

// TestCloseWhileWaiting: those who wait are told, and nothing runs on.
func TestCloseWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for i := range 4 {
			name := fmt.Sprint("t", i)
			w.log.create(name, 1)
			w.log.write(name, 0, orders(0, 3000)...)
		}
		failed := make(chan error)
		for i := range 4 {
			go func() {
				_, err := w.store.Snapshot(t.Context(), w.log.topic(fmt.Sprint("t", i)), map[int32]int64{0: 1 << 40}, nil)
				failed <- err
			}()
		}
		held := w.snapshot("t0")
		synctest.Wait()
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if err := <-failed; !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := w.store.Snapshot(t.Context(), w.log.topic("t0"), nil, nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		w.check(held, "t0")
		held.Release()
	})
}

// TestConfig: what is missing is said, and a directory has one user.
func TestConfig(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("a store without a log was opened")
	}
	w := newWorld(t, nil)
	if _, err := Open(Config{Dir: w.dir, Log: w.log, Schemas: w.schemas}); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("%v", err)
	}
	if _, err := Open(Config{Dir: t.TempDir(), Log: w.log, Schemas: w.schemas, Budget: -1}); err == nil {
		t.Error("a budget below 0 was taken")
	}
}

// TestScanColumns: columns come in the order asked for, none gives rows only, and what is not there is refused.
func TestScanColumns(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 5000)...)
	s := w.snapshot("orders")
	defer s.Release()
	for _, bad := range [][]int{{-1}, {99}, {1, 2, 1}} {
		if _, err := s.Scan(bad); err == nil {
			t.Errorf("a scan of columns %v was taken", bad)
		}
	}
	scan, err := s.Scan(nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := int64(0)
	for {
		rec, err := scan.Next(t.Context())
		if err != nil {
			break
		}
		if rec.NumCols() != 0 {
			t.Errorf("%d columns", rec.NumCols())
		}
		rows += rec.NumRows()
		rec.Release()
	}
	scan.Close()
	scan.Close()
	if rows != 5000 {
		t.Errorf("%d rows", rows)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	scan, err = s.Scan([]int{1})
	if err != nil {
		t.Fatal(err)
	}
	defer scan.Close()
	if _, err := scan.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
