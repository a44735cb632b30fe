package tier_test

import (
	"path/filepath"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
	"github.com/tidemark-io/tidemark/tier/tiertest"
)

func openLocal(tb testing.TB) *tier.Local {
	tb.Helper()
	s, err := tier.OpenLocal(disk.OS(), tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestLocalContract(t *testing.T) {
	tiertest.Run(t, func(t *testing.T) tier.Store {
		t.Helper()
		return openLocal(t)
	})
}

func TestFakeContract(t *testing.T) {
	tiertest.Run(t, func(*testing.T) tier.Store { return tierfake.New() })
}

// TestLocalSweeps: a directory may be open twice; only what dead processes left is removed.
func TestLocalSweeps(t *testing.T) {
	dir, fsys := t.TempDir(), disk.OS()
	open := func() *tier.Local {
		s, err := tier.OpenLocal(fsys, dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	leave := func(name string) {
		f, err := fsys.Create(filepath.Join(dir, ".tidemark-tmp", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	first := open() // slot 0
	leave("0000-77.tmp")
	leave("0007-1.tmp")
	second := open() // slot 1
	if _, err := fsys.Stat(filepath.Join(dir, ".tidemark-tmp", "0007-1.tmp")); err == nil {
		t.Error("a dead process's file stayed")
	}
	if _, err := fsys.Stat(filepath.Join(dir, ".tidemark-tmp", "0000-77.tmp")); err != nil {
		t.Errorf("a living process's file went: %v", err)
	}
	for _, s := range []*tier.Local{first, second, first} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	third := open()
	if _, err := fsys.Stat(filepath.Join(dir, ".tidemark-tmp", "0000-77.tmp")); err == nil {
		t.Error("leftover of an earlier life stayed")
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
}
