package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
)

func TestDataDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	d, err := openDataDir(disk.OS(), dir, "process 42 at http://127.0.0.1:8640")
	if err != nil {
		t.Fatal(err)
	}
	_, err = openDataDir(disk.OS(), dir, "another")
	var f *failure
	if !errors.As(err, &f) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "process 42 at http://127.0.0.1:8640") || !strings.Contains(f.next, "--data-dir") {
		t.Errorf("error %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(disk.OS(), dir, "another")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir() + "/made/on/the/way"
	random := bytes.NewReader([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	open := func(wanted string) (identity, error) {
		d, err := openDataDir(disk.OS(), dir, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		return d.identify(wanted, random)
	}
	first, err := open("")
	if err != nil || len(first.disk) != 32 || !strings.HasPrefix(first.node, "node-") || first.cluster != "" {
		t.Fatalf("identity %+v, %v", first, err)
	}
	if again, err := open(""); err != nil || again != first {
		t.Errorf("identity %+v, then %+v, %v", first, again, err)
	}
	if same, err := open(first.node); err != nil || same != first {
		t.Errorf("identity %+v, %v", same, err)
	}
	if _, err := open("somebody-else"); err == nil || !strings.Contains(err.Error(), first.node) {
		t.Errorf("error %v", err)
	}
}
