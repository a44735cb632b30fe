package tier

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/clock"
)

// Finding is what one check of Probe found.
type Finding struct {
	Name     string // "put", "read", "ranged read", ...
	OK       bool
	Detail   string // what was seen, or the error
	Fix      string // the next step for an operator when it is not OK
	Duration time.Duration
}

const (
	probeBytes   = 1 << 20
	probeWriters = 16
	probeNames   = 4 // per writer
	probePuts    = 20
)

// ProbeConfig is what Probe needs beside the store.
type ProbeConfig struct {
	Clock  clock.Clock // nil is the system's
	Random io.Reader   // names the probe's objects, so that two probes do not meet; crypto/rand.Reader
}

// Probe tries on a store what Tidemark relies on: put, read, ranged read, the end of an object, repeated put of the same bytes, read right
// after write by many writers, list, delete; and measures how long a put takes. Its objects lie under "tidemark-probe/" and are removed
// at the end. The checks after a failed put are left out, for they would all say the same.
func Probe(ctx context.Context, s Store, cfg ProbeConfig) []Finding {
	if cfg.Clock == nil {
		cfg.Clock = clock.System()
	}
	p := &probe{store: s, clock: cfg.Clock, data: make([]byte, probeBytes)}
	token := make([]byte, 16)
	if _, err := io.ReadFull(cfg.Random, token); err != nil {
		return []Finding{{Name: "random", Detail: err.Error(), Fix: "the source of random numbers failed"}}
	}
	for i := range p.data {
		p.data[i] = token[i%len(token)] + byte(i>>8)
	}
	p.prefix = "tidemark-probe/" + hex.EncodeToString(token)
	p.check(ctx, "put", p.put)
	if p.findings[0].OK {
		p.check(ctx, "read", p.read)
		p.check(ctx, "ranged read", p.rangedRead)
		p.check(ctx, "short object", p.short)
		p.check(ctx, "absent object", p.absent)
		p.check(ctx, "repeated put", p.repeat)
		p.check(ctx, "read after write", p.readAfterWrite)
		p.check(ctx, "list", p.list)
		p.check(ctx, "put latency", p.latency)
		p.check(ctx, "delete", p.remove)
	}
	return p.findings
}

type probe struct {
	store    Store
	clock    clock.Clock
	prefix   string
	data     []byte
	findings []Finding
}

func (p *probe) name(format string, args ...any) string {
	return p.prefix + "/" + fmt.Sprintf(format, args...)
}

func (p *probe) check(ctx context.Context, name string, run func(context.Context) (string, error)) {
	start := p.clock.Now()
	detail, err := run(ctx)
	f := Finding{Name: name, OK: err == nil, Detail: detail, Duration: p.clock.Now().Sub(start)}
	if err != nil {
		f.Detail, f.Fix = err.Error(), "use a store that does this: Tidemark relies on it"
		if known, ok := errors.AsType[*Error](err); ok {
			f.Fix = known.Hint
		}
	}
	p.findings = append(p.findings, f)
}

func (p *probe) put(ctx context.Context) (string, error) {
	return fmt.Sprintf("%d bytes", len(p.data)), p.store.Put(ctx, p.name("object"), [][]byte{p.data[:100], p.data[100:]})
}

func (p *probe) expect(ctx context.Context, name string, off, n int) error {
	got := make([]byte, n)
	if err := p.store.ReadAt(ctx, name, got, int64(off)); err != nil {
		return err
	}
	if !bytes.Equal(got, p.data[off:off+n]) {
		return fmt.Errorf("read %d bytes of %q at %d: other bytes than were put", n, name, off)
	}
	return nil
}

func (p *probe) read(ctx context.Context) (string, error) {
	o, err := p.store.Stat(ctx, p.name("object"))
	if err != nil {
		return "", err
	}
	if o.Size != int64(len(p.data)) {
		return "", fmt.Errorf("stat %q: %d bytes, want %d", o.Name, o.Size, len(p.data))
	}
	return "the bytes that were put", p.expect(ctx, p.name("object"), 0, len(p.data))
}

func (p *probe) rangedRead(ctx context.Context) (string, error) {
	for _, r := range [][2]int{{0, 1}, {1000, 5000}, {len(p.data) - 7, 7}} {
		if err := p.expect(ctx, p.name("object"), r[0], r[1]); err != nil {
			return "", err
		}
	}
	return "from begin, middle and end", nil
}

func (p *probe) short(ctx context.Context) (string, error) {
	for _, off := range []int{len(p.data) - 1, len(p.data) + 5} {
		if err := p.store.ReadAt(ctx, p.name("object"), make([]byte, 2), int64(off)); !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", fmt.Errorf("read over the end of an object: got %w, want a report of its end", orSuccess(err))
		}
	}
	return "a read over the end is reported", nil
}

func (p *probe) absent(ctx context.Context) (string, error) {
	if err := p.store.ReadAt(ctx, p.name("never-put"), make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
		return "", fmt.Errorf("read an absent object: got %w, want %w", orSuccess(err), ErrNotFound)
	}
	return "is told from other failures", nil
}

func orSuccess(err error) error {
	if err == nil {
		return errors.New("success")
	}
	return err
}

func (p *probe) repeat(ctx context.Context) (string, error) {
	if err := p.store.Put(ctx, p.name("object"), [][]byte{p.data}); err != nil {
		return "", err
	}
	return "the same bytes may be put again", p.expect(ctx, p.name("object"), 0, len(p.data))
}

func (p *probe) readAfterWrite(ctx context.Context) (string, error) {
	g, gctx := errgroup.WithContext(ctx)
	for w := range probeWriters {
		g.Go(func() error {
			for i := range probeNames {
				name := p.name("many/%d-%d", w, i)
				if err := p.store.Put(gctx, name, [][]byte{p.data[:1000+w]}); err != nil {
					return err
				}
				if err := p.expect(gctx, name, 0, 1000+w); err != nil {
					return fmt.Errorf("read right after put: %w", err)
				}
			}
			return nil
		})
	}
	return fmt.Sprintf("%d writers, %d objects each", probeWriters, probeNames), g.Wait()
}

func (p *probe) list(ctx context.Context) (string, error) {
	var names []string
	err := p.store.List(ctx, p.prefix+"/", func(o Object) error {
		names = append(names, o.Name)
		return nil
	})
	if err != nil {
		return "", err
	}
	// A listing may lag, and nothing rests on it: garbage is only found later.
	if want := probeWriters*probeNames + 1; len(names) != want || !slices.IsSorted(names) {
		return fmt.Sprintf("shows %d of %d objects, sorted: %t; harmless, garbage is found later", len(names), want, slices.IsSorted(names)), nil
	}
	return fmt.Sprintf("%d objects, in order", len(names)), nil
}

func (p *probe) latency(ctx context.Context) (string, error) {
	var took []time.Duration
	for i := range probePuts {
		start := p.clock.Now()
		if err := p.store.Put(ctx, p.name("latency/%d", i), [][]byte{p.data[:64<<10]}); err != nil {
			return "", err
		}
		took = append(took, p.clock.Now().Sub(start))
	}
	slices.Sort(took)
	return fmt.Sprintf("put of 64 KiB: p50 %v, slowest of %d %v", took[len(took)/2].Round(10*time.Microsecond), len(took), took[len(took)-1].Round(10*time.Microsecond)), nil
}

// remove deletes what the probe put, by name: a listing may not show all of it.
func (p *probe) remove(ctx context.Context) (string, error) {
	names := []string{p.name("object")}
	for w := range probeWriters {
		for i := range probeNames {
			names = append(names, p.name("many/%d-%d", w, i))
		}
	}
	for i := range probePuts {
		names = append(names, p.name("latency/%d", i))
	}
	for _, name := range names {
		if err := p.store.Delete(ctx, name); err != nil {
			return "", err
		}
	}
	if _, err := p.store.Stat(ctx, p.name("object")); !errors.Is(err, ErrNotFound) {
		return "", fmt.Errorf("stat a deleted object: got %w, want %w", orSuccess(err), ErrNotFound)
	}
	return fmt.Sprintf("%d objects", len(names)), nil
}
