// Package tierfake is an object store in memory that fails on demand. It obeys the contract of package tiertest until a
// test asks for a fault.
package tierfake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/tier"
)

// Op names a method of tier.Store.
type Op string

// The methods.
const (
	Put    Op = "put"
	ReadAt Op = "read"
	Stat   Op = "stat"
	List   Op = "list"
	Delete Op = "delete"
)

// When says whether a failing call takes effect.
type When int

// Before is a call that fails and did nothing; After one that did all and whose answer is lost.
const (
	Before When = iota
	After
)

// Fake is a tier.Store in memory. Every method may be called from any goroutine.
type Fake struct {
	clock clock.Clock

	mu       sync.Mutex
	objects  map[string]object
	faults   map[Op][]fault
	hangs    map[Op]chan struct{}
	latency  map[Op]time.Duration
	counts   map[Op]int
	mangle   func(name string, off int64, p []byte) int
	list     func([]tier.Object) []tier.Object
	contents bool
}

type object struct {
	data     []byte
	modified time.Time
}

type fault struct {
	err  error
	when When
}

// New returns an empty store.
func New() *Fake {
	return &Fake{
		clock: clock.System(), objects: map[string]object{}, faults: map[Op][]fault{}, hangs: map[Op]chan struct{}{},
		latency: map[Op]time.Duration{}, counts: map[Op]int{}, contents: true,
	}
}

// FailNext makes the next call of op that has no fault yet fail with err. Calls queue up.
func (f *Fake) FailNext(op Op, err error, when When) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[op] = append(f.faults[op], fault{err, when})
}

// Hang makes every call of op wait, before it takes effect, until its context ends or the returned function is called.
func (f *Fake) Hang(op Op) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan struct{})
	f.hangs[op] = ch
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(ch)
		if f.hangs[op] == ch {
			delete(f.hangs, op)
		}
	})
}

// Latency makes every call of op take d, by the system clock; 0 ends it.
func (f *Fake) Latency(op Op, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency[op] = d
}

// Mangle lets fn change what ReadAt returns: fn may damage p and returns how much of it arrives; less than all is an
// answer that broke off (ErrUnavailable). nil ends it.
func (f *Fake) Mangle(fn func(name string, off int64, p []byte) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mangle = fn
}

// LieInList lets fn replace what List shows. nil ends it.
func (f *Fake) LieInList(fn func([]tier.Object) []tier.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = fn
}

// Count returns how often op was called.
func (f *Fake) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// Corrupt changes a stored object in place; fn may return a shorter slice. It reports whether the object exists.
func (f *Fake) Corrupt(name string, fn func([]byte) []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.objects[name]
	if ok {
		o.data = fn(slices.Clone(o.data))
		f.objects[name] = o
	}
	return ok
}

// Names returns the names of all objects, ordered.
func (f *Fake) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.objects))
}

// call runs effect under the faults of op.
func (f *Fake) call(ctx context.Context, op Op, name string, effect func() error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %q: %w", op, name, context.Cause(ctx))
	}
	f.mu.Lock()
	f.counts[op]++
	hang, latency := f.hangs[op], f.latency[op]
	var ft *fault
	if queue := f.faults[op]; len(queue) > 0 {
		ft, f.faults[op] = &queue[0], queue[1:]
	}
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return fmt.Errorf("%s %q: %w", op, name, context.Cause(ctx))
		}
	}
	if latency > 0 {
		t := f.clock.NewTimer(latency)
		defer t.Stop()
		select {
		case <-t.C():
		case <-ctx.Done():
			return fmt.Errorf("%s %q: %w", op, name, context.Cause(ctx))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ft != nil && ft.when == Before {
		return &tier.Error{Op: string(op), Name: name, Store: "memory", Cause: ft.err}
	}
	err := effect()
	if err == nil && ft != nil {
		err = &tier.Error{Op: string(op), Name: name, Store: "memory", Cause: ft.err}
	}
	return err
}

// Put implements tier.Store. It panics when a name gets a second content: that is a bug of the code under test, which
// no real store would report.
func (f *Fake) Put(ctx context.Context, name string, body [][]byte) error {
	if err := tier.CheckName(name); err != nil {
		return err
	}
	return f.call(ctx, Put, name, func() error {
		data := bytes.Join(body, nil)
		if old, ok := f.objects[name]; ok && f.contents && !bytes.Equal(old.data, data) {
			panic(fmt.Sprintf("tierfake: object %q is put with other bytes", name))
		}
		f.objects[name] = object{data, f.clock.Now()}
		return nil
	})
}

// AllowOverwrite ends the check that a name never gets a second content.
func (f *Fake) AllowOverwrite() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents = false
}

// ReadAt implements tier.Store.
func (f *Fake) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := tier.CheckName(name); err != nil {
		return err
	}
	if off < 0 {
		return fmt.Errorf("read %d bytes at %d: no such range", len(p), off)
	}
	return f.call(ctx, ReadAt, name, func() error {
		o, ok := f.objects[name]
		if !ok {
			return notFound(ReadAt, name)
		}
		if off+int64(len(p)) > int64(len(o.data)) {
			return &tier.Error{Op: string(ReadAt), Name: name, Store: "memory", Cause: io.ErrUnexpectedEOF}
		}
		copy(p, o.data[off:])
		if f.mangle != nil {
			if n := f.mangle(name, off, p); n < len(p) {
				clear(p[n:])
				return &tier.Error{
					Op: string(ReadAt), Name: name, Store: "memory", Kind: tier.ErrUnavailable,
					Cause: fmt.Errorf("answer broke off after %d of %d bytes", n, len(p)),
				}
			}
		}
		return nil
	})
}

// Stat implements tier.Store.
func (f *Fake) Stat(ctx context.Context, name string) (tier.Object, error) {
	if err := tier.CheckName(name); err != nil {
		return tier.Object{}, err
	}
	var found tier.Object
	err := f.call(ctx, Stat, name, func() error {
		o, ok := f.objects[name]
		if !ok {
			return notFound(Stat, name)
		}
		found = tier.Object{Name: name, Size: int64(len(o.data)), Modified: o.modified}
		return nil
	})
	if err != nil {
		return tier.Object{}, err
	}
	return found, nil
}

// List implements tier.Store.
func (f *Fake) List(ctx context.Context, prefix string, fn func(tier.Object) error) error {
	var shown []tier.Object
	err := f.call(ctx, List, prefix, func() error {
		for _, name := range slices.Sorted(maps.Keys(f.objects)) {
			if strings.HasPrefix(name, prefix) {
				shown = append(shown, tier.Object{Name: name, Size: int64(len(f.objects[name].data)), Modified: f.objects[name].modified})
			}
		}
		if f.list != nil {
			shown = f.list(shown)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range shown {
		if ctx.Err() != nil {
			return fmt.Errorf("list %q: %w", prefix, context.Cause(ctx))
		}
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements tier.Store.
func (f *Fake) Delete(ctx context.Context, name string) error {
	if err := tier.CheckName(name); err != nil {
		return err
	}
	return f.call(ctx, Delete, name, func() error {
		delete(f.objects, name)
		return nil
	})
}

func notFound(op Op, name string) error {
	return &tier.Error{Op: string(op), Name: name, Store: "memory", Kind: tier.ErrNotFound}
}
