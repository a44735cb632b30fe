package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/query/column"
)

// Config says what a Store may take and where it reads. Log, Schemas and Dir must be set.
type Config struct {
	// Budget is the memory of all tails together, in bytes; 256 MiB when 0. What may come on top is told in the package's comment.
	Budget int64
	// SpillBytes is the most that all tails write to Dir; 64 GiB when 0.
	SpillBytes int64
	// Dir is a directory for this Store alone. What an earlier process left there is removed.
	Dir string
	// FS is nil for the machine's.
	FS disk.FS
	// Clock is nil for the system's.
	Clock clock.Clock
	// Logger is nil for silence.
	Logger *slog.Logger
	// Memory is what every array is allocated on; nil is Go's memory, which an engine in C cannot take.
	Memory memory.Allocator
	// IdleAfter is how long after its last snapshot was taken or released a tail is dropped; 10 minutes when 0.
	IdleAfter time.Duration

	Log     Log
	Schemas Schemas

	// Of a complete run; 0 are the defaults. For tests.
	runBytes, runRows int64
}

func (c *Config) complete() error {
	if c.Log == nil || c.Schemas == nil || c.Dir == "" {
		return errors.New("open the store of tails: Log, Schemas and Dir must be set")
	}
	if c.Budget < 0 || c.SpillBytes < 0 || c.IdleAfter < 0 {
		return errors.New("open the store of tails: a limit is below 0")
	}
	if c.Budget == 0 {
		c.Budget = 256 << 20
	}
	if c.SpillBytes == 0 {
		c.SpillBytes = 64 << 30
	}
	if c.FS == nil {
		c.FS = disk.OS()
	}
	if c.Clock == nil {
		c.Clock = clock.System()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Memory == nil {
		c.Memory = memory.DefaultAllocator
	}
	if c.IdleAfter == 0 {
		c.IdleAfter = 10 * time.Minute
	}
	if c.runBytes == 0 {
		c.runBytes = max(1, min(defaultRunBytes, c.Budget/8))
	}
	if c.runRows == 0 {
		c.runRows = defaultRunRows
	}
	return nil
}

// Store has the tails of all topics that are being queried. Its methods may be called from any goroutine.
type Store struct {
	config Config
	pool   *pool
	lock   io.Closer // of the directory
	ctx    context.Context
	cancel context.CancelCauseFunc
	loops  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	tails  map[string]*tail // by topic id
}

// Open makes a Store without tails, and removes what an earlier one left in its directory. It fails when another process uses the directory.
func Open(c Config) (*Store, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	if err := c.FS.MkdirAll(c.Dir); err != nil {
		return nil, fmt.Errorf("make the directory of tails: %w", err)
	}
	lock, err := c.FS.Lock(path.Join(c.Dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("lock the directory of tails: %w", err)
	}
	if err := empty(c.FS, c.Dir); err != nil {
		return nil, errors.Join(fmt.Errorf("empty the directory of tails: %w", err), lock.Close())
	}
	s := &Store{
		config: c, lock: lock, tails: map[string]*tail{},
		pool: &pool{
			mem: c.Memory, fs: c.FS, dir: c.Dir, log: c.Logger, budget: c.Budget, capacity: c.SpillBytes,
			runBytes: c.runBytes, runRows: c.runRows,
		},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s, nil
}

// empty removes the spill files in a directory, and nothing else that may be there.
func empty(f disk.FS, dir string) error {
	list, err := f.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Dir || !strings.HasSuffix(e.Name, fileSuffix) {
			continue
		}
		if err := f.Remove(path.Join(dir, e.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mostRebuilds is how often a Snapshot begins anew, over about 1 s, because a spill file was damaged or the log was deleted meanwhile.
const mostRebuilds = 5

// Snapshot returns all that the topic's tail holds when it has reached atLeast in every partition that this names. It begins to follow
// the topic if nobody has; partitions that are not followed yet are added. Its schema is the newest known, and no older than the
// schema given, which is the one in force as the caller knows it, or nil. The caller releases it.
//
// The error is a *LagError when ctx ends first, ErrSpillFull when the topic does not fit, ErrDropped or ErrClosed when that happens
// meanwhile, a *SchemaError when the columns cannot be agreed on, a *DamageError when spill files are damaged again and again, a *RangeError when
// records are deleted again and again before they are read, a *PanicError when a bug of ours shows, else what the file system or the Log said.
func (s *Store) Snapshot(ctx context.Context, topic Topic, atLeast map[int32]int64, schema *column.Schema) (*Snapshot, error) {
	for rebuilds := 0; ; {
		t, err := s.tail(topic)
		if err != nil {
			return nil, err
		}
		snap, err := t.ask(ctx, &request{topic: topic, atLeast: maps.Clone(atLeast), schema: schema, answer: make(chan answer, 1)})
		switch {
		case errors.Is(err, errIdle):
			continue
		case !errors.Is(err, errRebuild):
			return snap, err
		}
		// The first time is mostly the last one, and it is not waited for.
		if rebuilds++; rebuilds > mostRebuilds || rebuilds > 1 && !pause(ctx, s.config.Clock, backoff(rebuilds)) {
			return nil, rebuilt(err)
		}
	}
}

// rebuilt is why a tail is built anew.
func rebuilt(err error) error {
	if damage, ok := errors.AsType[*DamageError](err); ok {
		return damage
	}
	if bug, ok := errors.AsType[*PanicError](err); ok {
		return bug
	}
	if deleted, ok := errors.AsType[*RangeError](err); ok {
		return deleted
	}
	return err
}

// tail returns a topic's tail, and begins it if there is none.
func (s *Store) tail(topic Topic) (*tail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	t := s.tails[topic.ID]
	if t == nil {
		t = newTail(s, topic)
		s.tails[topic.ID] = t
		s.loops.Go(t.run)
	}
	return t, nil
}

// forget takes a tail that ends out, so that the next Snapshot begins another.
func (s *Store) forget(t *tail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tails[t.id] == t {
		delete(s.tails, t.id)
	}
}

// Drop ends a topic's tail, which frees its memory and its files but for what snapshots hold. Snapshots that wait fail with ErrDropped.
func (s *Store) Drop(topicID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tails[topicID]; t != nil {
		delete(s.tails, topicID)
		t.cancel(ErrDropped)
	}
}

// Close ends all tails and waits for them. Snapshots that wait fail with ErrClosed; those that were given stay valid, and what they hold goes
// with them. Closing twice is harmless.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.cancel(ErrClosed)
	s.loops.Wait()
	if !first {
		return nil
	}
	return s.lock.Close()
}
