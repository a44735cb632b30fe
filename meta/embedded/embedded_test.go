package embedded

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta"
)

func TestRestartKeepsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing", "etcd")
	var log bytes.Buffer
	var last meta.Revision
	ports := make(map[string]bool)
	for round := range 3 {
		server, err := Start(Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ports[server.Endpoint()] = true
		kv, at, err := server.KV().Get(t.Context(), "a")
		if err != nil || round > 0 && (kv == nil || kv.Mod != last || at != last) {
			t.Fatalf("round %d: got %+v at %d, want revision %d; %v", round, kv, at, last, err)
		}
		r, err := server.KV().Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("a", []byte("x"))}})
		if err != nil {
			t.Fatal(err)
		}
		last = r.Revision
		for range 2 {
			if err := server.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
		}
		if _, err := server.KV().Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("a", nil)}}); err == nil {
			t.Fatal("a closed server takes writes")
		}
	}
	if log.Len() > 0 {
		t.Errorf("starting and closing was not quiet:\n%s", log.String())
	}
	member, err := os.Stat(filepath.Join(dir, "member"))
	if err != nil || member.Mode().Perm() != 0o700 {
		t.Errorf("etcd's data is open to others: %v, %v", member.Mode(), err)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := Start(Config{Dir: dir})
	if !errors.Is(err, disk.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got error %v", err)
	}
}

func TestDirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Dir: filepath.Join(file, "etcd")}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got error %v", err)
	}
}

// A start that fails leaves nothing behind that would stop the next one.
func TestStartFails(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		for attempt := range round {
			// Some are given up so late that they are ready before.
			server, err := Start(Config{Dir: dir, StartTimeout: 1 + time.Duration(20*attempt)*time.Millisecond})
			if err == nil {
				err = server.Close()
			} else if strings.Contains(err.Error(), "not ready") {
				err = nil
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		open(t, dir)
	}
}

// What an unfinished first start left is removed; what was ready once never is.
func TestUnfinishedFirstStart(t *testing.T) {
	dir := t.TempDir()
	member := filepath.Join(dir, "member")
	if err := os.MkdirAll(filepath.Join(member, "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(member, "wal", "half"), filepath.Join(dir, bootstrapFile)} {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server, err := Start(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.KV().Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("a", nil)}}); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, bootstrapFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first start has not ended: %v", err)
	}
	if kv, _, err := open(t, dir).KV().Get(t.Context(), "a"); err != nil || kv == nil {
		t.Errorf("after the restart: %+v, %v", kv, err)
	}
}

// A process that is killed at any moment of its first start, or its second, leaves a directory that the next one can use.
func TestKilledWhileStarting(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		dir := t.TempDir()
		for range 2 {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReopen$", "-reopen="+dir)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			<-clock.System().NewTimer(time.Duration(random.IntN(200)) * time.Millisecond).C()
			_ = child.Process.Kill() // it may have ended
			_ = child.Wait()
		}
		open(t, dir)
	}
}

func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	server, err := Start(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("log files %v, %v", logs, err)
	}
	content, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := 64; n < 512; n++ {
		content[n] ^= 0xff
	}
	if err := os.WriteFile(logs[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got error %v", err)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	running := goleak.IgnoreCurrent()
	server, err := Start(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w, err := server.KV().Watch(t.Context(), "a", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, meta.ErrUnavailable) {
		t.Errorf("watch of a closed server: %v", err)
	}
	goleak.VerifyNone(t, running)
}

// A full etcd refuses writes by name, and takes them again after it was compacted and its space reclaimed.
func TestQuotaDrill(t *testing.T) {
	server, err := Start(Config{Dir: t.TempDir(), QuotaBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, kv := t.Context(), server.KV()
	fill := meta.Txn{Then: []meta.Op{meta.PutOp("a", bytes.Repeat([]byte("x"), 1<<20))}}
	var last meta.Revision
	for {
		r, err := kv.Txn(ctx, fill)
		if errors.Is(err, meta.ErrNoSpace) {
			break
		}
		if err != nil || r.Revision > 40 {
			t.Fatalf("at revision %d: %v", r.Revision, err)
		}
		last = r.Revision
	}
	status, err := kv.Status(ctx)
	if err != nil || !slices.Contains(status.Alarms, "NOSPACE") {
		t.Fatalf("status %+v, %v", status, err)
	}
	// etcd has applied a write that it refuses if it finds out while it applies it.
	if got, _, err := kv.Get(ctx, "a"); err != nil || got.Mod != last && got.Mod != last+1 {
		t.Errorf("reading from a full etcd: %+v, %v; the last write that was taken was at %d", got, err, last)
	}
	// It returns when the space is free; through KV that may take a moment longer.
	if _, err := server.Client.Compact(ctx, last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if err := server.Reclaim(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Txn(ctx, meta.Txn{Then: []meta.Op{meta.PutOp("b", nil)}}); err != nil {
		t.Errorf("after the drill: %v", err)
	}
	if status, err = kv.Status(ctx); err != nil || len(status.Alarms) > 0 || status.DBSize > 8<<20 {
		t.Errorf("after the drill: %+v, %v", status, err)
	}
}
