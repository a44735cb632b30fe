package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// An etcd that is behind what the data directory remembers was restored from a backup: it is not believed.
func TestNodeRefusesRestoredEtcd(t *testing.T) {
	dir := t.TempDir()
	p, err := openNode(t.Context(), devConfig(dir), testDeps(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	waitNode(t, p)
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	seen, err := p.data.readSeen()
	if err != nil {
		t.Fatal(err)
	}
	if seen.Revision == 0 || seen.EtcdCluster == 0 {
		t.Fatalf("a node that ran and stopped remembers %+v", seen)
	}
	seen.Revision += 1000
	if err := p.data.writeSeen(seen); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, devConfig(dir), testDeps(io.Discard))
	if err := again.waitReady(t.Context()); !errors.Is(err, meta.ErrRestored) {
		t.Fatalf("start on an etcd that went back: %v", err)
	}
}

func TestSeenFileIsRead(t *testing.T) {
	p, err := openNode(t.Context(), devConfig(t.TempDir()), testDeps(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	waitNode(t, p)
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	want := seenBefore{Seen: meta.Seen{Revision: 1 << 40, EtcdCluster: 0xfedcba9876543210}, generation: 3}
	if err := p.data.writeSeen(want); err != nil {
		t.Fatal(err)
	}
	if got, err := p.data.readSeen(); err != nil || got != want {
		t.Fatalf("read %+v, %v", got, err)
	}
	if err := p.data.write(seenFile, "nonsense"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.data.readSeen(); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Fatalf("nonsense is read: %v", err)
	}
}
