package tier_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tiertest"
)

const crashDir = "/data/objects"

type localCrash struct {
	keep crashdisk.Keep
	seed uint64
}

var localCrashes = []localCrash{
	{crashdisk.KeepNone, 0}, {crashdisk.KeepAll, 0}, {crashdisk.KeepHalf, 1}, {crashdisk.KeepHalf, 2}, {crashdisk.KeepHalf, 3},
}

// crashObjects are put one after the other: into a new folder, beside one, above one, and over one, with the same bytes.
var crashObjects = []struct {
	name string
	size int
}{{"a/b/one", 100_000}, {"a/b/two", 10}, {"a/three", 9_000}, {"a/b/one", 100_000}, {"four", 0}}

var crashBytes = tiertest.Bytes(1, 200_000)

// crashBody is a part of crashBytes that the name tells apart.
func crashBody(name string, size int) []byte { return crashBytes[len(name):][:size] }

// putAll puts the objects until one fails, and returns those that are promised.
func putAll(t *testing.T, fsys disk.FS) (promised map[string]bool, err error) {
	t.Helper()
	promised = map[string]bool{}
	s, err := tier.OpenLocal(fsys, crashDir)
	if err != nil {
		return promised, err
	}
	for _, o := range crashObjects {
		data := crashBody(o.name, o.size)
		if err := s.Put(t.Context(), o.name, [][]byte{data[:o.size/3], data[o.size/3:]}); err != nil {
			return promised, errors.Join(err, s.Close())
		}
		promised[o.name] = true
	}
	return promised, s.Close()
}

// checkObjects opens the store and checks that what was promised is whole, that what else is there is whole too, and that
// everything can be put again.
func checkObjects(t *testing.T, fsys disk.FS, promised map[string]bool) (err error) {
	t.Helper()
	s, err := tier.OpenLocal(fsys, crashDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	found := map[string]bool{}
	err = s.List(t.Context(), "", func(o tier.Object) error {
		found[o.Name] = true
		for _, want := range crashObjects {
			if want.name != o.Name {
				continue
			}
			if o.Size != int64(want.size) {
				return fmt.Errorf("%s has %d bytes", o.Name, o.Size)
			}
			got := make([]byte, want.size)
			if err := s.ReadAt(t.Context(), o.Name, got, 0); err != nil {
				return err
			}
			if string(got) != string(crashBody(want.name, want.size)) {
				return fmt.Errorf("%s holds something else", o.Name)
			}
			return nil
		}
		return fmt.Errorf("%s was never put", o.Name)
	})
	if err != nil {
		return err
	}
	for name := range promised {
		if !found[name] {
			return fmt.Errorf("%s is gone", name)
		}
	}
	for _, o := range crashObjects {
		if err := s.Put(t.Context(), o.name, [][]byte{crashBody(o.name, o.size)}); err != nil {
			return err
		}
	}
	return nil
}

// TestLocalCrash lets every call of a store's life go wrong in every way, and lets the power go there: an object that was
// promised is whole, any other is whole or invisible, and the next life goes on.
func TestLocalCrash(t *testing.T) {
	all := map[string]bool{}
	for _, o := range crashObjects {
		all[o.name] = true
	}
	for name, fault := range map[string]crashdisk.Fault{
		"error":        {},
		"errorAfter":   {Done: true},
		"torn":         {Torn: true},
		"power":        {Stop: true},
		"powerAfter":   {Stop: true, Done: true},
		"powerTorn":    {Stop: true, Torn: true},
		"noSpace":      {Err: disk.ErrNoSpace},
		"noSpaceAfter": {Err: disk.ErrNoSpace, Done: true},
	} {
		t.Run(name, func(t *testing.T) {
			for call := 1; ; call++ {
				fsys := crashdisk.New()
				fault.Call = call
				fsys.FailOn(fault)
				promised, err := putAll(t, fsys)
				if fsys.Failed() == "" {
					if err != nil {
						t.Fatal(err)
					}
					break // every call has failed once
				}
				failed := fmt.Sprintf("call %d (%s)", call, fsys.Failed())
				if !fault.Stop {
					next := fsys.Copy()
					if err := checkObjects(t, next, promised); err != nil {
						t.Fatalf("%s, then a restart: %v", failed, err)
					}
					if err := checkObjects(t, next.Crash(crashdisk.KeepNone, 0), all); err != nil {
						t.Fatalf("%s, then a restart and a crash: %v", failed, err)
					}
				}
				for _, c := range localCrashes {
					after := fsys.Crash(c.keep, c.seed)
					if err := checkObjects(t, after, promised); err != nil {
						t.Fatalf("%s, then a crash that keeps %v, seed %d: %v", failed, c.keep, c.seed, err)
					}
					if err := checkObjects(t, after.Crash(crashdisk.KeepNone, 0), all); err != nil {
						t.Fatalf("%s, a crash that keeps %v, seed %d, and another crash: %v", failed, c.keep, c.seed, err)
					}
				}
			}
		})
	}
}

// TestLocalPutAfterCrash: a put that returned is whole after any crash, whatever else was under way.
func TestLocalPutAfterCrash(t *testing.T) {
	fsys := crashdisk.New()
	promised, err := putAll(t, fsys)
	if err != nil || len(promised) == 0 {
		t.Fatal(err)
	}
	for _, c := range localCrashes {
		if err := checkObjects(t, fsys.Crash(c.keep, c.seed), promised); err != nil {
			t.Errorf("a crash that keeps %v, seed %d: %v", c.keep, c.seed, err)
		}
	}
}
