package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemark-io/tidemark/meta"
)

const (
	minFreeBytes  = 1 << 30
	probeFileSize = 16 << 20
	probeFsyncs   = 50
	slowFsync     = 50 * time.Millisecond // in the middle: a busy disk has outliers
	oldestEtcd    = 3<<16 | 5             // 3.5: fragments of watches, and the txn fixes of its line
)

// disk checks the file system that the data directory is on, or would be made on. It leaves nothing behind.
func (c *checkup) disk(dataDir, token string) {
	files := c.app.fs
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		dir = dataDir
	}
	// The directory may not be there yet: then its nearest parent is on the same file system.
	for {
		entry, err := files.Stat(dir)
		if err == nil && entry.Dir || !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	c.check("disk", "free space", "free some, or name another disk with --data-dir", func() (string, error) {
		free, err := files.Free(dir)
		if err != nil {
			return "", err
		}
		if free < minFreeBytes {
			return "", fmt.Errorf("%.0f MB in %s; a node wants %d MB at least", float64(free)/1e6, dir, minFreeBytes/1_000_000)
		}
		return fmt.Sprintf("%.1f GB in %s", float64(free)/1e9, dir), nil
	})
	name := filepath.Join(dir, ".tidemark-probe-"+token)
	writable := c.check("disk", "allocate", "the disk must be writable and have room for log files", func() (string, error) {
		f, err := files.Create(name)
		if err != nil {
			return "", err
		}
		err = f.Allocate(probeFileSize)
		return fmt.Sprintf("%d MiB", probeFileSize>>20), errors.Join(err, f.Close())
	})
	if !writable {
		c.remove(name)
		return
	}
	// Open is for reading: the file is made anew for the writes.
	c.remove(name)
	c.check("disk", "fsync", "every acknowledgement waits for one: use a disk with a write cache that survives power loss, not a network or spinning one", func() (string, error) {
		return c.fsyncs(name)
	})
	c.check("disk", "rename", "the file system must rename atomically and sync directories; network file systems often do not", func() (string, error) {
		renamed := name + "-renamed"
		defer c.remove(renamed)
		if err := files.Rename(name, renamed); err != nil {
			return "", err
		}
		if err := files.SyncDir(dir); err != nil {
			return "", err
		}
		_, err := files.Stat(renamed)
		return "with a sync of the directory", err
	})
	c.remove(name)
}

// remove takes a probe's file away when it is there. A file that stays is worth no more than its line in the table.
func (c *checkup) remove(name string) {
	if err := c.app.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.results = append(c.results, checkResult{Area: "disk", Check: "remove", Detail: oneLine(err.Error()), Fix: "remove the file by hand"})
	}
}

func (c *checkup) fsyncs(name string) (string, error) {
	f, err := c.app.fs.Create(name)
	if err != nil {
		return "", err
	}
	h, err := c.timeFsyncs(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	r := reportLatencies(h)
	detail := fmt.Sprintf("p50 %s, p99 %s", millis(r.P50), millis(r.P99))
	if r.P50 > float64(slowFsync.Milliseconds()) {
		return "", fmt.Errorf("slow: %s", detail)
	}
	return detail, nil
}

// syncedFile is what timeFsyncs needs of a file.
type syncedFile interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
}

func (c *checkup) timeFsyncs(f syncedFile) (*hdrhistogram.Histogram, error) {
	h := newLatencies()
	block := make([]byte, 4<<10)
	for i := range int64(probeFsyncs) {
		start := c.app.clock.Now()
		if _, err := f.WriteAt(block, i*int64(len(block))); err != nil {
			return h, err
		}
		if err := f.Sync(); err != nil {
			return h, err
		}
		recordLatency(h, c.app.clock.Now().Sub(start))
	}
	return h, nil
}

// port checks that the node could listen, or that one of ours already does.
func (c *checkup) port(ctx context.Context, address string) {
	c.check("port", address, "stop the process that has it, or choose another with --http", func() (string, error) {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", address)
		if err == nil {
			return "free", l.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) && c.isHealthy(ctx, address) {
			return "in use by a server that says it is healthy", nil
		}
		return "", err
	})
}

func (c *checkup) isHealthy(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// clock checks that the wall clock is set: it stamps records and drives retention.
func (c *checkup) clock() {
	c.check("clock", "is set", "set the clock, best by NTP", func() (string, error) {
		now := c.app.clock.Now()
		if now.Year() < 2026 || now.Year() > 2100 {
			return "", fmt.Errorf("it says %s", now.UTC().Format(time.RFC3339))
		}
		return now.UTC().Format(time.RFC3339), nil
	})
}

// metadata checks a metadata store through the seam by which a node uses it.
func (c *checkup) metadata(ctx context.Context, kv meta.KV, key string) {
	healthy := c.check("etcd", "status", "start etcd, or correct --etcd; with NOSPACE compact, defragment and disarm it", func() (string, error) {
		return etcdStatus(ctx, kv)
	})
	if !healthy {
		return
	}
	var watcher meta.Watcher
	watching := c.check("etcd", "start watch", "let the node reach every etcd member", func() (string, error) {
		_, revision, err := kv.Get(ctx, key)
		if err != nil {
			return "", err
		}
		watcher, err = kv.Watch(ctx, key, revision+1)
		return fmt.Sprintf("from revision %d", revision+1), err
	})
	if watching {
		defer watcher.Close()
	}
	c.check("etcd", "transaction", "the user of --etcd must be allowed to read and write", func() (string, error) {
		return c.etcdTxn(ctx, kv, key)
	})
	if watching {
		c.check("etcd", "watch", "let long-lived streams through the proxies before etcd", func() (string, error) {
			change, err := watcher.Next(ctx)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("saw revision %d", change.Revision), nil
		})
	}
	c.check("etcd", "lease", "the user of --etcd must be allowed to grant leases", func() (string, error) {
		lease, err := kv.Grant(ctx, 10*time.Second)
		if err != nil {
			return "", err
		}
		_, err = kv.KeepAlive(ctx, lease)
		return "granted, kept alive and revoked", errors.Join(err, kv.Revoke(ctx, lease))
	})
}

func etcdStatus(ctx context.Context, kv meta.KV) (string, error) {
	s, err := kv.Status(ctx)
	if err != nil {
		return "", err
	}
	switch {
	case len(s.Alarms) > 0:
		return "", fmt.Errorf("alarms: %s", strings.Join(s.Alarms, ", "))
	case !s.Leader:
		return "", errors.New("the cluster has no leader")
	case !newEnough(s.Version):
		return "", fmt.Errorf("version %s is too old; 3.5 is the oldest", s.Version)
	}
	return fmt.Sprintf("version %s, %.1f MB, %.1f MB of it in use", s.Version, float64(s.DBSize)/1e6, float64(s.DBInUse)/1e6), nil
}

func newEnough(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, majorErr := strconv.Atoi(parts[0])
	minor, minorErr := strconv.Atoi(parts[1])
	return majorErr == nil && minorErr == nil && major<<16|minor >= oldestEtcd
}

// etcdTxn writes under a compare, sees the compare refuse the second time, and removes the key.
func (c *checkup) etcdTxn(ctx context.Context, kv meta.KV, key string) (string, error) {
	txn := meta.Txn{If: []meta.Compare{meta.IfAbsent(key)}, Then: []meta.Op{meta.PutOp(key, []byte("probe"))}, Else: []meta.Op{meta.GetOp(key)}}
	start := c.app.clock.Now()
	first, err := kv.Txn(ctx, txn)
	took := c.app.clock.Now().Sub(start)
	if err != nil {
		return "", err
	}
	second, err := kv.Txn(ctx, txn)
	if err != nil {
		return "", err
	}
	_, err = kv.Txn(ctx, meta.Txn{Then: []meta.Op{meta.DeleteOp(key)}})
	switch {
	case err != nil:
		return "", err
	case !first.Succeeded || second.Succeeded:
		return "", errors.New("a compare did not hold when it should, or held when it should not")
	case len(second.Gets) != 1 || second.Gets[0] == nil || second.Gets[0].Mod != first.Revision:
		return "", errors.New("what was written was not read back")
	}
	return "in " + millis(float64(took.Microseconds())/1000), nil
}
