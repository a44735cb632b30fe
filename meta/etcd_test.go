package meta_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-io/tidemark/meta"
)

// lyingEtcd counts the writes that reach it and answers each with one status, as a proxy or a dying server may after it has
// passed the write on.
type lyingEtcd struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer

	code             codes.Code
	writes, renewals atomic.Int64
}

func (l *lyingEtcd) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	l.writes.Add(1)
	return nil, status.Error(l.code, "outcome unknown")
}

func (l *lyingEtcd) Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	l.writes.Add(1)
	return nil, status.Error(l.code, "outcome unknown")
}

func (l *lyingEtcd) LeaseKeepAlive(pb.Lease_LeaseKeepAliveServer) error {
	l.renewals.Add(1)
	return status.Error(l.code, "not now")
}

func serveLies(t *testing.T, code codes.Code) (*lyingEtcd, meta.KV) {
	t.Helper()
	listener := listen(t)
	l := &lyingEtcd{code: code}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, l)
	pb.RegisterLeaseServer(server, l)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l, dialEtcd(t, listener.Addr().String())
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// An error leaves the outcome of a write unknown: whatever the error is, nobody below KV sends the write again. The library
// alone does, for two of these.
func TestEtcdSendsAWriteOnce(t *testing.T) {
	for _, code := range []codes.Code{
		codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal, codes.ResourceExhausted,
		codes.Unknown, codes.FailedPrecondition,
	} {
		t.Run(code.String(), func(t *testing.T) {
			lies, kv := serveLies(t, code)
			_, err := kv.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("a", nil)}})
			if err == nil || lies.writes.Load() != 1 {
				t.Errorf("the transaction was sent %d times, error %v", lies.writes.Load(), err)
			}
			if again := code != codes.Unknown && code != codes.FailedPrecondition; errors.Is(err, meta.ErrUnavailable) != again {
				t.Errorf("got error %v", err)
			}
			if err := kv.Compact(t.Context(), 1); err == nil || lies.writes.Load() != 2 {
				t.Errorf("the compaction was sent %d times, error %v", lies.writes.Load()-1, err)
			}
			if _, err := kv.KeepAlive(t.Context(), 1); err == nil || lies.renewals.Load() != 1 {
				t.Errorf("the lease was renewed %d times, error %v", lies.renewals.Load(), err)
			}
		})
	}
}

// With etcd down every call says so at once, and where it was looked for.
func TestEtcdDown(t *testing.T) {
	listener := listen(t)
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	kv := dialEtcd(t, address)
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"Txn":       func() error { _, err := kv.Txn(ctx, meta.Txn{Then: []meta.Op{meta.PutOp("a", nil)}}); return err },
		"Get":       func() error { _, _, err := kv.Get(ctx, "a"); return err },
		"Range":     func() error { _, _, err := kv.Range(ctx, "a", 0); return err },
		"Watch":     func() error { _, err := kv.Watch(ctx, "a", 1); return err },
		"Grant":     func() error { _, err := kv.Grant(ctx, 1e9); return err },
		"KeepAlive": func() error { _, err := kv.KeepAlive(ctx, 1); return err },
		"Revoke":    func() error { return kv.Revoke(ctx, 1) },
		"Compact":   func() error { return kv.Compact(ctx, 1) },
		"Status":    func() error { _, err := kv.Status(ctx); return err },
	} {
		err := call()
		if !errors.Is(err, meta.ErrUnavailable) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "check that") {
			t.Errorf("%s: got error %v", what, err)
		}
	}
}

// The reply to a transaction is cut off after etcd has applied it.
func TestEtcdReplyLost(t *testing.T) {
	server := startEtcd(t)
	direct := server.KV()
	proxy := newProxy(t, server.Endpoint())
	kv := dialEtcd(t, proxy.address())
	if _, _, err := kv.Get(t.Context(), "a"); err != nil { // connects
		t.Fatal(err)
	}
	for round := range 3 {
		_, before, err := direct.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		watch, err := direct.Watch(t.Context(), "a", before+1)
		if err != nil {
			t.Fatal(err)
		}
		proxy.muteReplies(true)
		failed := make(chan error, 1)
		go func() {
			_, err := kv.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("a", []byte("x"))}})
			failed <- err
		}()
		if _, err := watch.Next(t.Context()); err != nil { // etcd has applied it
			t.Fatal(err)
		}
		watch.Close()
		proxy.cut()
		if err := <-failed; !errors.Is(err, meta.ErrUnavailable) {
			t.Fatalf("round %d: got error %v", round, err)
		}
		proxy.muteReplies(false)
		await(t, kv)
		if _, after, err := direct.Get(t.Context(), "a"); err != nil || after != before+1 {
			t.Fatalf("round %d: the transaction was applied %d times; %v", round, after-before, err)
		}
	}
}

// A watch goes on over broken connections: nothing is missing, nothing comes twice.
func TestEtcdWatchOverBrokenConnections(t *testing.T) {
	server := startEtcd(t)
	direct := server.KV()
	proxy := newProxy(t, server.Endpoint())
	kv := dialEtcd(t, proxy.address())
	_, now, err := kv.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	watch, err := kv.Watch(t.Context(), "a", now+1)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	for n := range 20 {
		txn := meta.Txn{Then: []meta.Op{meta.PutOp("a/1", fmt.Append(nil, n)), meta.PutOp("a/2", fmt.Append(nil, n))}}
		if n%5 == 0 {
			proxy.cut()
		}
		r, err := direct.Txn(t.Context(), txn)
		if err != nil {
			t.Fatal(err)
		}
		if n%3 != 0 {
			continue // so that some are read together
		}
		for ; now < r.Revision; now++ {
			c, err := watch.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.Revision != now+1 || len(c.Events) != 2 {
				t.Fatalf("got %+v, want revision %d", c, now+1)
			}
		}
	}
}

// await returns when the store answers again.
func await(t *testing.T, kv meta.KV) {
	t.Helper()
	for {
		_, _, err := kv.Get(t.Context(), "a")
		if err == nil {
			return
		}
		if !errors.Is(err, meta.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}
