package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Store on a fake log, and what a test looks at.
type world struct {
	*testing.T

	mem     *memory.CheckedAllocator
	log     *fakeLog
	schemas *fakeSchemas
	fs      disk.FS
	dir     string
	store   *Store
	sample  int64 // of so many rows one is compared as a whole
}

// sampled compares one row of 17 as a whole, of the others that they are there.
func (w *world) sampled() *world {
	w.sample = 17
	return w
}

// sleep lets the time of a bubble pass.
func sleep(d time.Duration) { <-clock.System().NewTimer(d).C() }

// newWorld opens a Store. At the end of the test everything must have been given back.
func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{T: t, mem: memory.NewCheckedAllocator(memory.DefaultAllocator), log: newFakeLog(), schemas: newFakeSchemas(), sample: 1}
	c := Config{Dir: t.TempDir(), FS: disk.OS(), Memory: w.mem, Log: w.log, Schemas: w.schemas}
	if change != nil {
		change(&c)
	}
	w.fs, w.dir = c.FS, c.Dir
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	w.store = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		w.mem.AssertSize(t, 0)
		if files := w.files(); len(files) > 0 {
			t.Errorf("files are left: %v", files)
		}
		if s.pool.memory != 0 || s.pool.disk != 0 || len(s.pool.runs) != 0 {
			t.Errorf("%d bytes of memory, %d bytes of disk and %d runs are counted at the end", s.pool.memory, s.pool.disk, len(s.pool.runs))
		}
	})
	return w
}

func (w *world) files() []string {
	w.Helper()
	list, err := w.fs.ReadDir(w.dir)
	if err != nil {
		w.Fatal(err)
	}
	var out []string
	for _, e := range list {
		if strings.HasSuffix(e.Name, fileSuffix) {
			out = append(out, e.Name)
		}
	}
	return out
}

// snapshot waits for all that is in the fake log.
func (w *world) snapshot(topic string) *Snapshot {
	w.Helper()
	s, err := w.store.Snapshot(w.Context(), w.log.topic(topic), w.log.ends(topic), nil)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// check compares all that a snapshot shows with the twin: the plain list of the topic's records, shredded at once under the
// snapshot's schema.
func (w *world) check(s *Snapshot, topic string) {
	w.Helper()
	want := w.twin(topic, s.Position(), s.Schema())
	if s.Rows() != int64(len(want)) {
		w.Errorf("the snapshot says it has %d rows, the log has %d", s.Rows(), len(want))
	}
	got := w.rows(s, nil)
	compare(w.T, got, want)
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	wrong := 0
	for at, row := range want {
		if have, ok := got[at]; !ok || have != row {
			if wrong++; wrong < 4 {
				t.Errorf("row %s:\n got %s\nwant %s", at, got[at], row)
			}
		}
	}
	for at, row := range got {
		if _, ok := want[at]; !ok {
			if wrong++; wrong < 4 {
				t.Errorf("row %s is not in the log: %s", at, row)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d rows are wrong", wrong, len(want))
	}
}

// rows scans all columns of a snapshot, in an order of its own, with two goroutines. Rows are known by partition and offset.
func (w *world) rows(s *Snapshot, columns []int) map[string]string {
	w.Helper()
	if columns == nil {
		for c := range s.Schema().Arrow().NumFields() {
			columns = append(columns, c)
		}
		slices.Reverse(columns)
	}
	scan, err := s.Scan(columns)
	if err != nil {
		w.Fatal(err)
	}
	defer scan.Close()
	var mu sync.Mutex
	var threads sync.WaitGroup
	out := map[string]string{}
	for range 2 {
		threads.Go(func() {
			for {
				rec, err := scan.Next(w.Context())
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					w.Error(err)
					return
				}
				mu.Lock()
				w.show(rec, out)
				mu.Unlock()
				rec.Release()
			}
		})
	}
	threads.Wait()
	return out
}

// show adds the rows of a record as text, and looks after what is promised of records.
func (w *world) show(rec arrow.Record, out map[string]string) {
	t := w.T
	t.Helper()
	if rec.NumRows() < 1 || rec.NumRows() > column.MaxRows {
		t.Errorf("a record has %d rows", rec.NumRows())
	}
	schema := rec.Schema()
	partitions, offsets := schema.FieldIndices("_partition"), schema.FieldIndices("_offset")
	names := make([]int, rec.NumCols())
	for i := range names {
		names[i] = i
		if rec.Column(i).Data().Offset() != 0 {
			t.Errorf("column %q is a slice", schema.Field(i).Name)
		}
		if !arrow.TypeEqual(rec.Column(i).DataType(), schema.Field(i).Type) {
			t.Errorf("column %q is of type %s, not %s", schema.Field(i).Name, rec.Column(i).DataType(), schema.Field(i).Type)
		}
	}
	slices.SortFunc(names, func(a, b int) int { return strings.Compare(schema.Field(a).Name, schema.Field(b).Name) })
	for row := range int(rec.NumRows()) {
		at := rec.Column(partitions[0]).ValueStr(row) + "/" + rec.Column(offsets[0]).ValueStr(row)
		if _, twice := out[at]; twice {
			t.Errorf("row %s comes twice", at)
		}
		if out[at] = ""; rec.Column(offsets[0]).(*array.Int64).Value(row)%w.sample != 0 {
			continue
		}
		var b strings.Builder
		for _, i := range names {
			b.WriteString(schema.Field(i).Name)
			b.WriteByte('=')
			b.WriteString(text(rec.Column(i), row))
			b.WriteByte(' ')
		}
		out[at] = b.String()
	}
}

// text is a value as text; the shortcut is for headers, which are mostly not there.
func text(a arrow.Array, row int) string {
	if l, ok := a.(*array.List); ok && l.IsValid(row) {
		if begin, end := l.ValueOffsets(row); begin == end {
			return "[]"
		}
	}
	return a.ValueStr(row)
}

func (w *world) twin(topic string, position map[int32]int64, s *column.Schema) map[string]string {
	w.Helper()
	out := map[string]string{}
	for n, records := range w.log.records(topic) {
		rows := column.NewRows(w.mem, n)
		take := func() {
			if rows.Len() == 0 {
				return
			}
			for raw := rows.Take(); raw != nil; {
				chunk, _ := column.Shred(w.mem, raw, s)
				rec := array.NewRecord(s.Arrow(), chunk.Columns(), int64(chunk.Rows()))
				w.show(rec, out)
				rest := behind(w.mem, raw, chunk)
				rec.Release()
				chunk.Release()
				raw.Release()
				raw = rest
			}
		}
		for _, r := range records {
			if r.Offset >= position[n] {
				continue
			}
			if rows.Append(r); rows.Full() {
				take()
			}
		}
		take()
		rows.Release()
	}
	return out
}

// fakeLog is some topics in memory.
type fakeLog struct {
	mu     sync.Mutex
	topics map[string]*fakeTopic // by id
	opened []map[int32]int64
}

type fakeTopic struct {
	Topic

	pieces  map[int32][]fakePiece
	ends    map[int32]int64
	more    chan struct{} // closed when something happens
	failure error         // of every Poll from now on
	once    []error       // of the next Polls
	stalled bool          // Poll waits
}

type fakePiece struct {
	from, next int64
	batches    []record.Batch
	bad        error
}

func newFakeLog() *fakeLog { return &fakeLog{topics: map[string]*fakeTopic{}} }

func (l *fakeLog) create(name string, partitions int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &fakeTopic{Topic: Topic{ID: "id-" + name, Name: name, Partitions: partitions}, pieces: map[int32][]fakePiece{}, ends: map[int32]int64{}, more: make(chan struct{})}
	for n := range partitions {
		f.ends[n] = 0
	}
	l.topics[name] = f
}

func (l *fakeLog) topic(name string) Topic {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.topics[name].Topic
}

func (l *fakeLog) ends(name string) map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.topics[name].ends)
}

// change does something with a topic and wakes its readers.
func (l *fakeLog) change(name string, do func(*fakeTopic)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.topics[name]
	do(f)
	close(f.more)
	f.more = make(chan struct{})
}

// write appends values, as one batch.
func (l *fakeLog) write(name string, partition int32, values ...string) {
	records := make([]record.Record, len(values))
	for i, v := range values {
		records[i] = record.Record{Timestamp: 1_700_000_000_000 + int64(i), Key: []byte(fmt.Sprint("k", i)), Value: []byte(v)}
	}
	l.append(name, partition, records...)
}

func (l *fakeLog) append(name string, partition int32, records ...record.Record) {
	b := record.NewBuilder(record.None)
	for _, r := range records {
		if err := b.Append(r); err != nil {
			panic(err)
		}
	}
	batch, err := b.Build(-1, -1, -1)
	if err != nil {
		panic(err)
	}
	l.change(name, func(f *fakeTopic) {
		from := f.ends[partition]
		batch.Stamp(from, 0)
		f.ends[partition] = batch.NextOffset()
		f.pieces[partition] = append(f.pieces[partition], fakePiece{from: from, next: batch.NextOffset(), batches: []record.Batch{batch}})
		f.Partitions = max(f.Partitions, partition+1)
	})
}

// skip leaves a gap, as compaction does.
func (l *fakeLog) skip(name string, partition int32, offsets int64) {
	l.change(name, func(f *fakeTopic) {
		from := f.ends[partition]
		f.ends[partition] = from + offsets
		f.pieces[partition] = append(f.pieces[partition], fakePiece{from: from, next: from + offsets})
	})
}

func (l *fakeLog) records(name string) map[int32][]record.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[int32][]record.Record{}
	for n, pieces := range l.topics[name].pieces {
		for _, p := range pieces {
			for r, err := range p.records() {
				if err == nil {
					out[n] = append(out[n], r)
				}
			}
		}
	}
	return out
}

func (p fakePiece) records() iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		if p.bad != nil {
			yield(record.Record{}, p.bad)
			return
		}
		for _, b := range p.batches {
			for r, err := range b.Records(record.Limits{}) {
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

func (l *fakeLog) Open(topic Topic, from map[int32]int64) (Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = append(l.opened, maps.Clone(from))
	return &fakeReader{log: l, topic: topic, at: maps.Clone(from)}, nil
}

// opens are the offsets from which readers were opened so far.
func (l *fakeLog) opens() []map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.opened)
}

type fakeReader struct {
	log   *fakeLog
	topic Topic
	at    map[int32]int64
}

func (r *fakeReader) Poll(ctx context.Context) (Piece, error) {
	for {
		r.log.mu.Lock()
		f := r.log.topics[r.topic.Name]
		piece, err := r.next(f)
		more := f.more
		r.log.mu.Unlock()
		if err != nil || piece.Records != nil {
			return piece, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Piece{}, context.Cause(ctx)
		}
	}
}

func (r *fakeReader) next(f *fakeTopic) (Piece, error) {
	switch {
	case len(f.once) > 0:
		err := f.once[0]
		f.once = f.once[1:]
		return Piece{}, err
	case f.failure != nil:
		return Piece{}, f.failure
	case f.stalled || f.ID != r.topic.ID:
		return Piece{}, nil
	}
	for _, n := range slices.Sorted(maps.Keys(r.at)) {
		for _, p := range f.pieces[n] {
			if p.next > r.at[n] {
				r.at[n] = p.next
				return Piece{Partition: n, Next: p.next, Records: p.records()}, nil
			}
		}
	}
	return Piece{}, nil
}

func (r *fakeReader) Close() {}

// fakeSchemas keeps schemas as a compare-and-swap on etcd would.
type fakeSchemas struct {
	mu      sync.Mutex
	current map[string]*column.Schema
	fail    []error // of the next calls
	extends int
	topics  []Topic
}

func newFakeSchemas() *fakeSchemas { return &fakeSchemas{current: map[string]*column.Schema{}} }

func (s *fakeSchemas) failure() error {
	if len(s.fail) == 0 {
		return nil
	}
	err := s.fail[0]
	s.fail = s.fail[1:]
	return err
}

func (s *fakeSchemas) get(id string) *column.Schema {
	if c := s.current[id]; c != nil {
		return c
	}
	return column.Empty
}

func (s *fakeSchemas) Load(_ context.Context, topic Topic) (*column.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(topic.ID), s.failure()
}

func (s *fakeSchemas) Extend(_ context.Context, topic Topic, _ *column.Schema, d *column.Discovery) (*column.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = append(s.topics, topic)
	if err := s.failure(); err != nil {
		return nil, err
	}
	s.extends++
	next := s.get(topic.ID).Extend(d)
	s.current[topic.ID] = next
	return next, nil
}

// other is a change that another node makes.
func (s *fakeSchemas) other(id string, change func(*column.Schema) *column.Schema) *column.Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current[id] = change(s.get(id))
	return s.current[id]
}

// discover extends a schema by what some values show.
func discover(s *column.Schema, values ...string) *column.Schema {
	rows := column.NewRows(memory.DefaultAllocator, 0)
	for i, v := range values {
		rows.Append(record.Record{Offset: int64(i), Value: []byte(v)})
	}
	raw := rows.Take()
	defer raw.Release()
	chunk, d := column.Shred(memory.DefaultAllocator, raw, s)
	chunk.Release()
	return s.Extend(d)
}

// order is a value of about 200 bytes.
func order(n int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"order_id":%d,"customer":"customer-%05d","country":"%s","amount":%d.%02d,"currency":"EUR","paid":%t,"items":%d,"channel":"web","note":"a note that is as long as such notes are"}`,
		n, n*7919%100000, []string{"DE", "FR", "PT", "SE"}[n%4], n%1000, n%100, n%3 == 0, n%9)
	return b.String()
}

func orders(from, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = order(from + i)
	}
	return out
}
