package tail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/query/column"
)

// peak remembers the most that was allocated at once.
type peak struct {
	memory.Allocator

	now, most atomic.Int64
}

func (p *peak) count(n int) {
	now := p.now.Add(int64(n))
	most := p.most.Load()
	for now > most && !p.most.CompareAndSwap(most, now) {
		most = p.most.Load()
	}
}

func (p *peak) Allocate(n int) []byte {
	p.count(n)
	return p.Allocator.Allocate(n)
}

func (p *peak) Reallocate(n int, b []byte) []byte {
	p.count(n - len(b))
	return p.Allocator.Reallocate(n, b)
}

func (p *peak) Free(b []byte) {
	p.count(-len(b))
	p.Allocator.Free(b)
}

// small makes runs of about two chunks, and a budget of a few of them.
func small(c *Config) {
	c.Budget = 3 << 20
	c.runBytes = 1 << 20
}

// TestSpill: far more than the budget is queried by several at once while it grows, each of them reading it twice, as a join does.
func TestSpill(t *testing.T) {
	most := &peak{}
	w := newWorld(t, func(c *Config) {
		small(c)
		most.Allocator = c.Memory
		c.Memory = most
	}).sampled()
	w.log.create("orders", 3)
	for i := range 15 {
		w.log.write("orders", int32(i%3), orders(i*1000, 1000)...)
	}
	w.snapshot("orders").Release()
	if limit := w.store.config.Budget + 4*(3<<20); most.most.Load() > limit {
		t.Errorf("%d bytes were taken to read the log, more than %d", most.most.Load(), limit)
	}
	stats := w.store.Stats()[0]
	if stats.Disk < 2<<20 || stats.Memory > w.store.config.Budget || len(w.files()) == 0 {
		t.Errorf("%+v, files %v", stats, w.files())
	}
	var queries sync.WaitGroup
	for n := range 3 {
		queries.Go(func() {
			s := w.snapshot("orders")
			defer s.Release()
			var both sync.WaitGroup
			both.Go(func() { w.check(s, "orders") })
			names := s.Schema().Arrow()
			columns := []int{names.FieldIndices("_offset")[0], names.FieldIndices("_partition")[0]}
			if got := w.rows(s, columns); int64(len(got)) != s.Rows() {
				t.Errorf("query %d: a second scan gives %d rows of %d", n, len(got), s.Rows())
			}
			both.Wait()
		})
	}
	for i := range 6 {
		w.log.write("orders", int32(i%3), orders(i*500, 500)...)
	}
	queries.Wait()
	s := w.snapshot("orders")
	w.check(s, "orders")
	s.Release()
}

// TestSpilledColumns: a column that is asked for alone, and one that is the text of another, are what they are among all.
func TestSpilledColumns(t *testing.T) {
	w := newWorld(t, small).sampled()
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 12_000)...)
	s := w.snapshot("orders")
	defer s.Release()
	schema := s.Schema().Arrow()
	at := []int{schema.FieldIndices("_partition")[0], schema.FieldIndices("_offset")[0]}
	all := w.rows(s, nil)
	for c, f := range schema.Fields() {
		if c == at[0] || c == at[1] {
			continue
		}
		n := 0
		for at, row := range w.rows(s, append([]int{c}, at...)) {
			partition, offset, _ := strings.Cut(at, "/")
			row = strings.Replace(strings.Replace(row, "_partition="+partition+" ", "", 1), "_offset="+offset+" ", "", 1)
			if row != "" && !strings.HasPrefix(row, f.Name+"=") || !strings.Contains(all[at], row) {
				t.Fatalf("row %s: %q is not in %q", at, row, all[at])
			}
			n++
		}
		if n != 12_000 {
			t.Errorf("column %q has %d rows", f.Name, n)
		}
	}
}

// TestLeastRecentlyScanned: of the runs that go to disk, those go first that nobody has scanned for longest.
func TestLeastRecentlyScanned(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Budget = 8 << 20; c.runBytes = 256 << 10 })
	w.log.create("old", 1)
	w.log.create("hot", 1)
	w.log.write("old", 0, orders(0, 6000)...)
	w.log.write("hot", 0, orders(0, 4000)...)
	w.snapshot("old").Release()
	hot := w.snapshot("hot")
	defer hot.Release()
	w.rows(hot, []int{0, 1})
	for range 4 {
		w.log.write("old", 0, orders(0, 6000)...)
	}
	w.snapshot("old").Release()
	for _, s := range w.store.Stats() {
		if spilled := s.Disk > 0; spilled != (s.Topic == "old") {
			t.Errorf("%s has %d bytes on disk", s.Topic, s.Disk)
		}
	}
}

// TestOldFiles: what an earlier process left is removed, what is somebody else's is not.
func TestOldFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"0000000000000001" + fileSuffix, "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, func(c *Config) { c.Dir = dir })
	if files := w.files(); len(files) > 0 {
		t.Errorf("%v", files)
	}
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Error(err)
	}
}

// TestSpillFull: a topic that does not fit fails by name and pauses, another one is not harmed, and when there is room it goes on by
// itself. Once the limit is the configuration's and once it is the disk's.
func TestSpillFull(t *testing.T) {
	for _, limit := range []string{"configured", "disk"} {
		t.Run(limit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				full := crashdisk.New()
				w := newWorld(t, func(c *Config) {
					small(c)
					c.FS, c.Dir = full, "/tails"
					if limit == "configured" {
						c.SpillBytes = 3 << 20
					} else {
						full.SetCapacity(3 << 20)
					}
				}).sampled()
				for _, name := range []string{"first", "great", "little"} {
					w.log.create(name, 1)
				}
				w.log.write("first", 0, orders(0, 6000)...)
				first := w.snapshot("first")
				for i := range 20 {
					w.log.write("great", 0, orders(i*1000, 1000)...)
				}
				_, err := w.store.Snapshot(t.Context(), w.log.topic("great"), w.log.ends("great"), nil)
				if !errors.Is(err, ErrSpillFull) || !strings.Contains(err.Error(), `"great"`) || !strings.Contains(err.Error(), "query fewer or smaller topics") {
					t.Fatalf("%v", err)
				}
				if limit == "disk" && !errors.Is(err, disk.ErrNoSpace) {
					t.Errorf("%v", err)
				}
				some, err := w.store.Snapshot(t.Context(), w.log.topic("great"), map[int32]int64{0: 2000}, nil) // it has this much
				if err != nil {
					t.Fatal(err)
				}
				w.check(some, "great")
				some.Release()
				for i := range 3 {
					w.log.write("little", 0, orders(i, 50)...)
					little := w.snapshot("little")
					w.check(little, "little")
					little.Release()
				}
				w.check(first, "first")
				first.Release()
				if limit == "disk" {
					full.SetCapacity(1 << 40)
					sleep(2 * retryRoom)
				} else {
					w.store.pool.mu.Lock()
					w.store.pool.capacity = 1 << 40
					w.store.pool.mu.Unlock()
					w.store.Drop("id-first") // its files go, which is noticed at once
				}
				synctest.Wait()
				great := w.snapshot("great")
				w.check(great, "great")
				great.Release()
			})
		})
	}
}

// TestFullThenIdle: a tail that pauses is dropped like any other when nobody asks.
func TestFullThenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { small(c); c.SpillBytes = 1 << 20 })
		w.log.create("great", 1)
		for i := range 12 {
			w.log.write("great", 0, orders(i*1000, 1000)...)
		}
		if _, err := w.store.Snapshot(t.Context(), w.log.topic("great"), w.log.ends("great"), nil); !errors.Is(err, ErrSpillFull) {
			t.Errorf("%v", err)
		}
		sleep(time.Hour)
		synctest.Wait()
		if n := len(w.store.Stats()); n != 0 || w.mem.CurrentAlloc() != 0 || len(w.files()) != 0 {
			t.Errorf("%d tails, %d bytes, files %v", n, w.mem.CurrentAlloc(), w.files())
		}
	})
}

// TestEveryCallFails: whichever call of the file system fails once while runs are spilled and read, nothing is lost but time.
func TestEveryCallFails(t *testing.T) {
	for _, op := range []crashdisk.Op{crashdisk.Create, crashdisk.Write, crashdisk.Close, crashdisk.Open, crashdisk.Read, crashdisk.Remove} {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := crashdisk.New()
				w := newWorld(t, func(c *Config) { small(c); c.FS, c.Dir = fs, "/tails" }).sampled()
				w.log.create("orders", 1)
				fs.FailOn(crashdisk.Fault{Op: op, Name: "*" + fileSuffix, Torn: op == crashdisk.Write})
				for i := range 12 {
					w.log.write("orders", 0, orders(i*1000, 1000)...)
				}
				var s *Snapshot
				for { // a query that fails is asked again
					var err error
					if s, err = w.store.Snapshot(t.Context(), w.log.topic("orders"), w.log.ends("orders"), nil); err == nil {
						if err = drain(t.Context(), s); err == nil {
							break
						}
						s.Release()
					}
					if damage, ok := errors.AsType[*DamageError](err); !errors.Is(err, crashdisk.ErrInjected) || ok && (op != crashdisk.Open && op != crashdisk.Read || damage.Topic != "orders") {
						t.Fatal(err)
					}
					sleep(2 * retryRoom)
				}
				w.check(s, "orders")
				s.Release()
				if op == crashdisk.Remove { // the bytes that it could not remove stay counted, until the next start
					w.store.Drop("id-orders")
					synctest.Wait()
					if len(w.files()) != 1 || w.store.pool.disk == 0 {
						t.Errorf("%d bytes of disk are counted, files %v", w.store.pool.disk, w.files())
					}
					if err := fs.Remove("/tails/" + w.files()[0]); err != nil {
						t.Fatal(err)
					}
					w.store.pool.disk = 0
				} else if fs.Failed() != op {
					t.Errorf("no %s failed", op)
				}
			})
		})
	}
}

// drain reads all of a snapshot.
func drain(ctx context.Context, s *Snapshot) error {
	columns := make([]int, s.Schema().Arrow().NumFields())
	for c := range columns {
		columns[c] = c
	}
	scan, err := s.Scan(columns)
	if err != nil {
		return err
	}
	defer scan.Close()
	for rows := int64(0); rows < s.Rows(); {
		rec, err := scan.Next(ctx)
		if err != nil {
			return err
		}
		rows += rec.NumRows()
		rec.Release()
	}
	return nil
}

// TestDamage: a byte that changed on disk is found when its column is read, not before; the query fails by name, and the same query
// asked again is right.
func TestDamage(t *testing.T) {
	w := newWorld(t, small).sampled()
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 12_000)...)
	s := w.snapshot("orders")
	if len(s.parts) == 0 || s.parts[0].run.file == nil {
		t.Fatal("nothing was spilled")
	}
	f := s.parts[0].run.file
	c := s.Schema().Arrow().FieldIndices("customer")[0]
	flip(t, f.name, f.columns[c].offset+f.columns[c].length/2)
	w.rows(s, []int{0, 1, 2})
	err := drain(t.Context(), s)
	damage, ok := errors.AsType[*DamageError](err)
	if !ok || damage.File != f.name || damage.Column != "customer" || damage.Topic != "orders" || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("%v", err)
	}
	s.Release()
	s = w.snapshot("orders")
	w.check(s, "orders")
	s.Release()
	if got := w.log.opens(); len(got) != 2 || got[1][0] != 0 {
		t.Errorf("opened at %v", got)
	}
}

// TestDamageWhileRewriting: damage that is found before a snapshot is given is nobody's trouble.
func TestDamageWhileRewriting(t *testing.T) {
	w := newWorld(t, small).sampled()
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 12_000)...)
	s := w.snapshot("orders")
	f := s.parts[0].run.file
	s.Release()
	flip(t, f.name, f.columns[1].offset+100)
	overridden := w.schemas.other("id-orders", func(s *column.Schema) *column.Schema {
		return s.Override(override(t, "amount", "VARCHAR"))
	})
	s, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), w.log.ends("orders"), overridden)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	w.check(s, "orders")
	if got := w.log.opens(); len(got) != 2 {
		t.Errorf("opened at %v", got)
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedStream: whatever the bytes of a column are, reading them gives an error and no worse, even if the checksum says that
// they are right.
func TestDamagedStream(t *testing.T) {
	w := newWorld(t, small).sampled()
	w.log.create("orders", 1)
	w.log.write("orders", 0, orders(0, 12_000)...)
	s := w.snapshot("orders")
	defer s.Release()
	f := s.parts[0].run.file
	b, err := os.ReadFile(f.name)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		length := 8 + random.IntN(len(b)-8)
		m := &messages{rest: b[random.IntN(len(b)-length):][:length]}
		for err == nil {
			_, err = m.Message()
		}
		err = nil
		m.Release()
	}
}

// TestFair: a topic that is catching up, spilling, or waiting for etcd holds up no other.
func TestFair(t *testing.T) {
	w := newWorld(t, small).sampled()
	w.log.create("huge", 1)
	w.log.create("stuck", 1)
	w.log.create("little", 1)
	stuck := make(chan struct{})
	w.store.config.Schemas = gate{w.schemas, "stuck", stuck}
	for i := range 30 {
		w.log.write("huge", 0, orders(i*500, 500)...)
	}
	w.log.write("stuck", 0, order(0))
	results := make(chan error)
	for _, name := range []string{"huge", "stuck"} {
		go func() {
			s, err := w.store.Snapshot(t.Context(), w.log.topic(name), w.log.ends(name), nil)
			if err == nil {
				w.check(s, name)
				s.Release()
			}
			results <- err
		}()
	}
	for i := range 20 {
		w.log.write("little", 0, order(i))
		s := w.snapshot("little")
		w.check(s, "little")
		s.Release()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.store.Snapshot(ctx, w.log.topic("stuck"), w.log.ends("stuck"), nil); err == nil {
		t.Error("a tail that is stuck gave a snapshot")
	}
	close(stuck)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// gate lets the schema of one topic wait.
type gate struct {
	*fakeSchemas

	topic string
	open  chan struct{}
}

func (g gate) Extend(ctx context.Context, topic Topic, from *column.Schema, d *column.Discovery) (*column.Schema, error) {
	if topic.Name == g.topic {
		<-g.open
	}
	return g.fakeSchemas.Extend(ctx, topic, from, d)
}

func override(t *testing.T, setting, name string) map[string]column.Type {
	t.Helper()
	types, err := column.Overrides(map[string]string{setting: name})
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// TestManyTopics: a budget that all share holds for all together.
func TestManyTopics(t *testing.T) {
	w := newWorld(t, small).sampled()
	for i := range 5 {
		name := fmt.Sprint("t", i)
		w.log.create(name, 1)
		for n := range 4 {
			w.log.write(name, 0, orders(n*1000, 1000)...)
		}
	}
	for i := range 5 {
		w.snapshot(fmt.Sprint("t", i)).Release()
	}
	var memory int64
	for _, s := range w.store.Stats() {
		memory += s.Memory
		if !maps.Equal(s.Position, map[int32]int64{0: 4000}) || s.Rows != 4000 {
			t.Errorf("%+v", s)
		}
	}
	if memory > w.store.config.Budget+8<<20 {
		t.Errorf("%d bytes of memory", memory)
	}
	for i := range 5 {
		s := w.snapshot(fmt.Sprint("t", i))
		w.check(s, fmt.Sprint("t", i))
		s.Release()
	}
}

// TestLittleKeepsItsRoom: a great topic for which there is no room leaves some of the budget to little ones.
func TestLittleKeepsItsRoom(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Budget, c.SpillBytes = 12<<20, 1 }).sampled()
	w.log.create("great", 1)
	w.log.create("little", 1)
	for i := range 40 {
		w.log.write("great", 0, orders(i*1000, 1000)...)
	}
	if _, err := w.store.Snapshot(t.Context(), w.log.topic("great"), w.log.ends("great"), nil); !errors.Is(err, ErrSpillFull) {
		t.Errorf("%v", err)
	}
	if memory := w.store.Stats()[0].Memory; memory < 8<<20 || memory > 12<<20-1<<18 {
		t.Errorf("the great topic takes %d bytes", memory)
	}
	w.log.write("little", 0, slices.Repeat([]string{`{"a":1}`}, 2500)...)
	s := w.snapshot("little")
	w.check(s, "little")
	s.Release()
}

// TestOpenRun: a snapshot has the chunks that its last run had then, in memory and on disk, however many are added.
func TestOpenRun(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Budget = 64 << 20 })
	w.log.create("orders", 1)
	var held []*Snapshot
	for i := range 4 {
		w.log.write("orders", 0, orders(i*2000, 2000)...)
		s := w.snapshot("orders")
		if len(s.parts) != 1 || s.parts[0].chunks != i+1 {
			t.Fatalf("%d runs", len(s.parts))
		}
		held = append(held, s)
	}
	w.check(held[0], "orders")
	w.store.pool.mu.Lock()
	w.store.pool.budget = 1
	w.store.pool.mu.Unlock()
	w.log.write("orders", 0, orders(8000, 2500)...)
	w.snapshot("orders").Release()
	if held[0].parts[0].run.file == nil {
		t.Error("the run was not spilled")
	}
	for _, s := range held {
		w.check(s, "orders")
		s.Release()
	}
}
