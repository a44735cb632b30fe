package embedded

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

var (
	commits = flag.Int("commits", 3000, "how many commits TestCommits makes; 1000000 for the figures in docs/etcd.md")
	reopen  = flag.String("reopen", "", "directory that TestReopen opens, for TestCommits")
)

// Shape of what a node does to etcd.
const (
	recordBytes = 200  // of an L0 record with few partitions
	foldEvery   = 64   // commits, after which
	foldBehind  = 1000 // so many records remain, and those above are removed
)

// committer is one node: a chain of commits on its head, and folds.
type committer struct {
	kv                         meta.KV
	name                       string
	node, assign, head         meta.Revision
	seq, oldest                int
	record                     []byte
	headKey, nodeKey, assigned string
}

func newCommitter(tb testing.TB, kv meta.KV, name string) *committer {
	tb.Helper()
	c := &committer{kv: kv, name: name, record: bytes.Repeat([]byte("r"), recordBytes)}
	c.nodeKey, c.assigned, c.headKey = "/bench/nodes/"+name, "/bench/assign/"+name, "/bench/heads/"+name
	r, err := kv.Txn(tb.Context(), meta.Txn{Then: []meta.Op{
		meta.PutOp(c.nodeKey, nil), meta.PutOp(c.assigned, nil), meta.PutOp(c.headKey, nil),
	}})
	if err != nil {
		tb.Fatal(err)
	}
	c.node, c.assign, c.head = r.Revision, r.Revision, r.Revision
	return c
}

func (c *committer) key(seq int) string {
	return fmt.Sprintf("/bench/l0/%s/%016x/%020d", c.name, 7, seq)
}

// commit makes one; every 64th also removes 64 old records, as a fold does.
func (c *committer) commit(ctx context.Context) error {
	c.seq++
	txn := meta.Txn{
		If:   []meta.Compare{meta.IfMod(c.nodeKey, c.node), meta.IfMod(c.assigned, c.assign), meta.IfMod(c.headKey, c.head)},
		Then: []meta.Op{meta.PutOp(c.key(c.seq), c.record), meta.PutOp(c.headKey, strconv.AppendInt(nil, int64(c.seq), 10))},
		Else: []meta.Op{meta.GetOp(c.nodeKey), meta.GetOp(c.assigned), meta.GetOp(c.headKey)},
	}
	if c.seq%foldEvery == 0 {
		for ; c.oldest < c.seq-foldBehind && len(txn.Then) < foldEvery+2; c.oldest++ {
			txn.Then = append(txn.Then, meta.DeleteOp(c.key(c.oldest)))
		}
	}
	r, err := c.kv.Txn(ctx, txn)
	if err != nil {
		return err
	}
	if !r.Succeeded {
		return fmt.Errorf("commit %d of %s was refused", c.seq, c.name)
	}
	c.head = r.Revision
	return nil
}

// BenchmarkCommits is one node that commits as fast as etcd takes it, one commit after the other, as nodes do.
func BenchmarkCommits(b *testing.B) {
	server := open(b, b.TempDir())
	tcp, err := meta.DialEtcd([]string{server.Endpoint()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tcp.Close() })
	for name, kv := range map[string]meta.KV{"in process": server.KV(), "over TCP": meta.NewEtcd(tcp)} {
		b.Run(name, func(b *testing.B) {
			c := newCommitter(b, kv, fmt.Sprintf("%s-%d", name, b.N))
			for b.Loop() {
				if err := c.commit(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestCommits makes many commits beside a compactor and looks at what they leave behind.
func TestCommits(t *testing.T) {
	const nodes = 8
	dir := t.TempDir()
	server := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	compactor := meta.NewCompactor(meta.CompactorConfig{KV: server.KV(), Clock: clock.System(), Reclaim: server.Reclaim})
	var compacting, wait sync.WaitGroup
	compacting.Go(func() { compactor.Run(ctx) })
	failed := make(chan error, nodes)
	began := clock.System().Now()
	for n := range nodes {
		c := newCommitter(t, server.KV(), fmt.Sprintf("node-%d", n))
		wait.Go(func() {
			for range *commits / nodes {
				if err := c.commit(ctx); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wait.Wait()
	took := clock.System().Now().Sub(began)
	cancel()
	compacting.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	status, err := server.KV().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d commits of %d nodes in %v: %.0f a second", *commits, nodes, took.Round(time.Millisecond), float64(*commits)/took.Seconds())
	t.Logf("directory %.1f MiB, database %.1f MiB of which %.1f in use; resident %s", mib(size(t, dir)), mib(status.DBSize), mib(status.DBInUse), resident(t))
	kvs, _, err := server.KV().Range(t.Context(), "/bench/l0/", 0)
	if err != nil {
		t.Fatal(err)
	}
	if most := nodes * (foldBehind + 2*foldEvery); len(kvs) > min(most, *commits) {
		t.Errorf("%d records are left, more than %d", len(kvs), most)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReopen$", "-test.v", "-reopen="+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("reopen: %v\n%s", err, out)
	}
	t.Logf("directory after the close %.1f MiB\n%s", mib(size(t, dir)), out)
}

// TestReopen opens a directory in a process of its own, for TestCommits.
func TestReopen(t *testing.T) {
	if *reopen == "" {
		t.Skip("only TestCommits runs it, in a child process")
	}
	began := clock.System().Now()
	server := open(t, *reopen)
	_, revision, err := server.KV().Get(t.Context(), "/bench/heads/node-0")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("restart at revision %d took %v; resident %s", revision, clock.System().Now().Sub(began).Round(time.Millisecond), resident(t))
}

func open(tb testing.TB, dir string) *Server {
	tb.Helper()
	server, err := Start(Config{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return server
}

func size(tb testing.TB, dir string) int64 {
	tb.Helper()
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return total
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// resident is what the process holds in memory now and held at most, where the system tells.
func resident(tb testing.TB) string {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	out := ""
	for _, m := range regexp.MustCompile(`(?m)^(VmRSS|VmHWM):\s+(\d+ kB)`).FindAllSubmatch(status, -1) {
		out += fmt.Sprintf("%s %s ", m[1], m[2])
	}
	return out
}
