package ingest

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta"
)

// slowDisk takes a while to read the log: 4 GiB, which is what may wait there, at 130 MB/s.
type slowDisk struct {
	disk.FS
	wait time.Duration
}

func (d slowDisk) ReadDir(name string) ([]disk.Entry, error) {
	<-clock.System().NewTimer(d.wait).C()
	return d.FS.ReadDir(name)
}

// TestLongLogOfALoneNode: a node that is alone and has a long log on disk comes up, however long it takes to read it.
func TestLongLogOfALoneNode(t *testing.T) {
	for _, wait := range []time.Duration{10 * time.Second, 32 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			inNodeWorld(t, nil, func(w *nodeWorld) {
				w.create("t", nil)
				w.mustProduce("t", "a")
				w.close()
				client, err := meta.New(meta.Config{KV: w.kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
				if err != nil {
					t.Fatal(err)
				}
				w.node, err = Open(Config{Node: "n1", Disk: "disk-1", LogDir: "wal", LogFileBytes: 1 << 20},
					Dependencies{FS: slowDisk{w.fs, wait}, Clock: clock.System(), Store: w.store, Meta: client, Random: rand.Reader})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(w.ctx, time.Hour)
				defer cancel()
				if err := w.node.WaitReady(ctx); err != nil {
					w.t.Errorf("after an hour: %v", err)
				}
			})
		})
	}
}
