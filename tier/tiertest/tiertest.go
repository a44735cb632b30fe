// Package tiertest is the contract of tier.Store as tests, and a real S3 server to run them against.
package tiertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/tier"
)

// Run checks that the stores that open returns obey the contract of tier.Store. Each call of open must return an empty one.
func Run(t *testing.T, open func(t *testing.T) tier.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, tier.Store)
	}{
		{"PutRead", putRead},
		{"PutIsRepeatable", putRepeat},
		{"Absent", absent},
		{"ShortObject", short},
		{"Names", names},
		{"List", list},
		{"ListStops", listStops},
		{"Delete", deletes},
		{"Concurrent", concurrent},
		{"EndedContext", ended},
		{"ManyParts", manyParts},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Bytes returns n bytes that differ with seed.
func Bytes(seed, n int) []byte {
	p := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func putRead(t *testing.T, s tier.Store) {
	for _, size := range []int{0, 1, 4096, 100_000, 3 << 20} {
		name, data := fmt.Sprintf("a/b/%d", size), Bytes(size, size)
		must(t, s.Put(t.Context(), name, [][]byte{data[:size/3], nil, data[size/3:]}))
		o, err := s.Stat(t.Context(), name)
		must(t, err)
		if o.Name != name || o.Size != int64(size) || o.Modified.IsZero() {
			t.Errorf("stat of %d bytes: %+v", size, o)
		}
		for _, r := range [][2]int{{0, size}, {size / 2, size - size/2}, {size / 3, size / 5}, {size, 0}} {
			got := make([]byte, r[1])
			must(t, s.ReadAt(t.Context(), name, got, int64(r[0])))
			if !bytes.Equal(got, data[r[0]:r[0]+r[1]]) {
				t.Errorf("read %d at %d of %d bytes: other bytes", r[1], r[0], size)
			}
		}
	}
}

func putRepeat(t *testing.T, s tier.Store) {
	data := Bytes(1, 10_000)
	for range 3 {
		must(t, s.Put(t.Context(), "x/y", [][]byte{data}))
	}
	got := make([]byte, len(data))
	must(t, s.ReadAt(t.Context(), "x/y", got, 0))
	if !bytes.Equal(got, data) {
		t.Error("other bytes after a repeated put")
	}
}

func absent(t *testing.T, s tier.Store) {
	must(t, s.Put(t.Context(), "there/is", [][]byte{[]byte("one")}))
	for _, name := range []string{"nothing", "there", "there/is/not", "there/i", "there/isnt"} {
		if _, err := s.Stat(t.Context(), name); !errors.Is(err, tier.ErrNotFound) {
			t.Errorf("stat %q: %v", name, err)
		}
		for _, n := range []int{0, 1} {
			if err := s.ReadAt(t.Context(), name, make([]byte, n), 0); !errors.Is(err, tier.ErrNotFound) {
				t.Errorf("read %d of %q: %v", n, name, err)
			}
		}
		must(t, s.Delete(t.Context(), name))
	}
	must(t, s.ReadAt(t.Context(), "there/is", make([]byte, 3), 0))
}

func short(t *testing.T, s tier.Store) {
	must(t, s.Put(t.Context(), "short", [][]byte{Bytes(1, 100)}))
	for _, r := range [][2]int{{0, 101}, {99, 2}, {100, 1}, {1000, 1}, {101, 0}} {
		err := s.ReadAt(t.Context(), "short", make([]byte, r[1]), int64(r[0]))
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tier.ErrNotFound) || errors.Is(err, tier.ErrUnavailable) {
			t.Errorf("read %d at %d of 100: %v", r[1], r[0], err)
		}
	}
	if err := s.ReadAt(t.Context(), "short", make([]byte, 1), -1); err == nil {
		t.Error("read at -1 succeeded")
	}
}

func names(t *testing.T, s tier.Store) {
	long := string(bytes.Repeat([]byte("n"), 100))
	good := []string{"a", "l0/node-1/00000000000000ff/00000000000000000001-0", "A_b.c=d+e@f,g:h~i", long + "/" + long + "/" + long}
	for _, name := range good {
		must(t, s.Put(t.Context(), name, [][]byte{[]byte(name)}))
		got := make([]byte, len(name))
		must(t, s.ReadAt(t.Context(), name, got, 0))
		if string(got) != name {
			t.Errorf("%q holds %q", name, got)
		}
	}
	for _, name := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".hidden", "a/.b", "a b", "a\\b", "a\x00b", "ä", "a?b", string(bytes.Repeat([]byte("n"), 513))} {
		if err := s.Put(t.Context(), name, nil); err == nil {
			t.Errorf("put %q succeeded", name)
		}
		if _, err := s.Stat(t.Context(), name); err == nil {
			t.Errorf("stat %q succeeded", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("delete %q succeeded", name)
		}
	}
}

func listed(t *testing.T, s tier.Store, prefix string) []string {
	t.Helper()
	var got []string
	must(t, s.List(t.Context(), prefix, func(o tier.Object) error {
		if o.Size != int64(len(o.Name)) {
			t.Errorf("list shows %d bytes of %q", o.Size, o.Name)
		}
		got = append(got, o.Name)
		return nil
	}))
	return got
}

func list(t *testing.T, s tier.Store) {
	all := []string{"a-b", "a/b", "a/c/d", "a/c/e", "a/cc", "a0", "b"}
	for _, name := range slices.Backward(all) {
		must(t, s.Put(t.Context(), name, [][]byte{[]byte(name)}))
	}
	for prefix, want := range map[string][]string{
		"": all, "a": all[:6], "a/": all[1:5], "a/c": all[2:5], "a/c/": all[2:4], "a/c/e": all[3:4], "x": nil, "a/b/": nil, "x/y": nil,
	} {
		if got := listed(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: %q, want %q", prefix, got, want)
		}
	}
}

func listStops(t *testing.T, s tier.Store) {
	for i := range 5 {
		name := fmt.Sprintf("o/%d", i)
		must(t, s.Put(t.Context(), name, [][]byte{[]byte(name)}))
	}
	stop, n := errors.New("enough"), 0
	err := s.List(t.Context(), "o/", func(tier.Object) error {
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	if err != stop || n != 2 { //nolint:errorlint // the contract says: as it is
		t.Errorf("list returned %v after %d", err, n)
	}
}

func deletes(t *testing.T, s tier.Store) {
	for range 2 {
		must(t, s.Put(t.Context(), "d/1", [][]byte{[]byte("d/1")}))
		must(t, s.Put(t.Context(), "d/2", [][]byte{[]byte("d/2")}))
		must(t, s.Delete(t.Context(), "d/1"))
		must(t, s.Delete(t.Context(), "d/1"))
		if _, err := s.Stat(t.Context(), "d/1"); !errors.Is(err, tier.ErrNotFound) {
			t.Errorf("stat after delete: %v", err)
		}
		if got := listed(t, s, "d/"); !slices.Equal(got, []string{"d/2"}) {
			t.Errorf("list after delete: %q", got)
		}
	}
}

// concurrent: many writers of many names, and of one name with the same bytes, each read right after its put.
func concurrent(t *testing.T, s tier.Store) {
	var wg sync.WaitGroup
	shared := Bytes(99, 50_000)
	for w := range 8 {
		wg.Go(func() {
			for i := range 6 {
				name, data := fmt.Sprintf("w/%d/%d", w, i), Bytes(w*100+i, 20_000)
				if i%3 == 0 {
					name, data = "w/shared", shared
				}
				if err := s.Put(t.Context(), name, [][]byte{data[:7], data[7:]}); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, len(data))
				if err := s.ReadAt(t.Context(), name, got, 0); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read %q after put: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
}

func ended(t *testing.T, s tier.Store) {
	must(t, s.Put(t.Context(), "e", [][]byte{[]byte("e")}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, statErr := s.Stat(ctx, "e")
	for op, err := range map[string]error{
		"put":  s.Put(ctx, "f", nil),
		"read": s.ReadAt(ctx, "e", make([]byte, 1), 0),
		"stat": statErr, "delete": s.Delete(ctx, "e"),
		"list": s.List(ctx, "", func(tier.Object) error { return nil }),
	} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, tier.ErrUnavailable) {
			t.Errorf("%s with an ended context: %v", op, err)
		}
	}
}

func manyParts(t *testing.T, s tier.Store) {
	data := Bytes(5, 2<<20)
	var parts [][]byte
	for rest, n := data, 1; len(rest) > 0; n = n*7%200_003 + 1 {
		n = min(n, len(rest))
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	must(t, s.Put(t.Context(), "parts", parts))
	got := make([]byte, len(data))
	must(t, s.ReadAt(t.Context(), "parts", got, 0))
	if !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
}
