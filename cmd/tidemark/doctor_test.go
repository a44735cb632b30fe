package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
)

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := ln.Addr().String()
	free := "127.0.0.1:0"
	defer ln.Close()
	run := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		a := newTestApp()
		a.fs = disk.OS()
		a.expect(t, code, stdout, stderr, append([]string{"doctor"}, args...)...)
	}
	run(0, `"area": "disk"`, "", "--data-dir", filepath.Join(dir, "not", "there", "yet"), "--http", free, "-o", "json")
	run(0, "store  read after write  OK", "", "--data-dir", dir, "--http", free, "--store", "file://"+filepath.ToSlash(filepath.Join(dir, "store")))
	run(1, "What to do:\nport, "+taken+": stop the process", "tidemark: doctor: 1 of 6 checks failed", "--data-dir", dir, "--http", taken)
	run(1, "FAIL", "checks failed", "--data-dir", dir, "--http", free, "--store", "ftp://x")
	run(2, "", "unknown flag", "--stroe", "x")

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "store" {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestEtcdVersions(t *testing.T) {
	for version, want := range map[string]bool{"3.5.0": true, "3.7.3": true, "4.0.0": true, "3.4.30": false, "2.3.8": false, "": false, "x.y": false} {
		if got := newEnough(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}
