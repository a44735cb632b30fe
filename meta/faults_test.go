package meta_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// transactionFaults are the faults after which a caller does not know what became of its transaction.
var transactionFaults = map[string]metafake.Fault{
	"the reply is lost": metafake.LoseReply, "the request is lost": metafake.Drop, "the request comes last": metafake.Detach,
}

// operation is a change of the cluster's metadata, on a cluster of one node with the topics "t" and "u".
type operation struct {
	name string
	// before prepares more.
	before func(t *testing.T, c *meta.Client)
	// run performs it and describes the answer, less its revisions.
	run func(ctx context.Context, t *testing.T, c *meta.Client, reg meta.Registration) (string, error)
}

func describe(topic meta.Topic) string {
	return fmt.Sprintf("%s %s %d %v", topic.Name, topic.ID, topic.Partitions, topic.Config)
}

var operations = []operation{
	{
		name: "register",
		run: func(ctx context.Context, t *testing.T, c *meta.Client, _ meta.Registration) (string, error) {
			t.Helper()
			reg, err := c.Register(ctx, nodeInfo(2), leaseTime)
			if err != nil {
				return "", err
			}
			w := writer{t: t, client: c}
			if node, head := w.mod(c.Keys().Node("a")), w.mod(c.Keys().Head("a")); reg.NodeRev != node || reg.HeadRev != head || reg.Revision < node {
				t.Errorf("registered at %d with head %d, but the keys are at %d and %d", reg.NodeRev, reg.HeadRev, node, head)
			}
			return fmt.Sprint(reg.Incarnation, reg.Disk, *reg.PreviousHead), nil
		},
	},
	{
		name: "make the cluster",
		before: func(t *testing.T, c *meta.Client) {
			t.Helper()
			if _, err := c.KV().Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.DeleteOp(c.Keys().Cluster())}}); err != nil {
				t.Fatal(err)
			}
		},
		run: func(ctx context.Context, t *testing.T, c *meta.Client, _ meta.Registration) (string, error) {
			t.Helper()
			for { // it leaves repeating to the caller
				info, err := newClient(t, c.KV()).EnsureCluster(ctx, "") // draws the same id each time
				if err == nil || ctx.Err() != nil {
					return fmt.Sprint(info), err
				}
			}
		},
	},
	{
		name: "lead a new topic",
		before: func(t *testing.T, c *meta.Client) {
			t.Helper()
			makeTopic(t, c, "v", 3)
		},
		run: func(ctx context.Context, t *testing.T, c *meta.Client, reg meta.Registration) (string, error) {
			t.Helper()
			at, err := leadEverything(ctx, c, reg)
			if mod := (&writer{t: t, client: c}).mod(c.Keys().Assign("a")); err == nil && mod > at {
				t.Errorf("assigned at %d, told %d", mod, at)
			}
			return "", err
		},
	},
	{
		name: "create a topic",
		run: func(ctx context.Context, t *testing.T, c *meta.Client, _ meta.Registration) (string, error) {
			t.Helper()
			topic, err := c.CreateTopic(ctx, "new", 2, meta.DefaultTopicConfig())
			if err == nil && topic.Revision != topic.CreateRevision {
				t.Errorf("a new topic is at revision %d, made at %d", topic.Revision, topic.CreateRevision)
			}
			return describe(topic), err
		},
	},
	{
		name: "alter a topic",
		run: func(ctx context.Context, _ *testing.T, c *meta.Client, _ meta.Registration) (string, error) {
			topic, err := c.AlterTopic(ctx, "t", map[string]string{meta.ConfigDurability: "disk"})
			return describe(topic), err
		},
	},
	{
		name: "add partitions",
		run: func(ctx context.Context, _ *testing.T, c *meta.Client, _ meta.Registration) (string, error) {
			topic, err := c.AddPartitions(ctx, "t", 9)
			return describe(topic), err
		},
	},
	{
		name: "delete a topic",
		run: func(ctx context.Context, _ *testing.T, c *meta.Client, _ meta.Registration) (string, error) {
			_, err := c.DeleteTopic(ctx, "t")
			return "", err
		},
	},
	{
		name: "swap a pointer",
		run: func(ctx context.Context, _ *testing.T, c *meta.Client, reg meta.Registration) (string, error) {
			p, err := c.SwapPointer(ctx, meta.Swap{
				Key: c.Keys().Manifest(meta.Partition{}), Value: []byte("one"), Guards: []meta.Compare{meta.IfMod(c.Keys().Node("a"), reg.NodeRev)},
			})
			return string(p.Value), err
		},
	},
}

// stage is a fresh cluster, in a fresh store, and what the operation did there.
type stage struct {
	store  *metafake.Store
	client *meta.Client
	sent   int
	answer string
	state  string
}

// play runs an operation with a fault on each of some of its transactions. When late is true the transactions that are held
// arrive between the attempts, otherwise after the last.
func (o operation) play(t *testing.T, late bool, faults ...metafake.Fault) (s stage) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { s = o.stage(t, late, faults) })
	return s
}

func (o operation) stage(t *testing.T, late bool, faults []metafake.Fault) stage {
	t.Helper()
	s := stage{store: newStore()}
	s.client = newClient(t, s.store)
	if _, err := s.client.EnsureCluster(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	makeTopic(t, s.client, "t", 4)
	makeTopic(t, s.client, "u", 1)
	w := startWriter(t, s.client, 1)
	if o.before != nil {
		o.before(t, s.client)
	}
	s.store.FailTxns(faults...)
	s.store.OnTxn(func(meta.Txn) metafake.Fault {
		s.sent++
		return metafake.None
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if late {
		go func() {
			if s.store.AwaitHeld(ctx, 1) != nil {
				return
			}
			select {
			case <-clock.System().NewTimer(time.Millisecond).C(): // the caller pauses for longer
				release(s.store)
			case <-ctx.Done():
			}
		}()
	}
	var err error
	if s.answer, err = o.run(ctx, t, s.client, w.reg); err != nil {
		t.Fatal(err)
	}
	cancel()
	synctest.Wait()
	for s.store.Held() > 0 {
		release(s.store)
	}
	s.store.OnTxn(nil)
	s.sent += len(faults)
	s.state = dump(t, s.store)
	return s
}

func release(store *metafake.Store) {
	if _, err := store.Release(0); err != nil && !errors.Is(err, meta.ErrLeaseGone) {
		panic(err)
	}
}

// TestOperationsUnderFaults runs every operation with every fault on every one of its transactions: the answer and what is
// stored are those of a run without faults.
func TestOperationsUnderFaults(t *testing.T) {
	for _, o := range operations {
		t.Run(o.name, func(t *testing.T) {
			good := o.play(t, false)
			if good.sent == 0 {
				t.Fatal("it sends nothing")
			}
			for name, fault := range transactionFaults {
				for k := range good.sent {
					for _, late := range []bool{false, true} {
						faults := make([]metafake.Fault, k+1)
						faults[k] = fault
						got := o.play(t, late, faults...)
						if got.answer != good.answer {
							t.Errorf("%s, transaction %d: answer %q, want %q", name, k, got.answer, good.answer)
						}
						if got.state != good.state {
							t.Errorf("%s, transaction %d: stored\n%swant\n%s", name, k, got.state, good.state)
						}
					}
				}
			}
		})
	}
}

// TestProducerIDs: no id comes twice, whatever is lost, and from however many clients.
func TestProducerIDs(t *testing.T) {
	for name, fault := range transactionFaults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				seen := map[int64]bool{}
				for range 4 {
					c := newClient(t, store)
					store.FailTxns(fault, metafake.None, fault)
					for range 2100 {
						id, err := c.NextProducerID(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						if seen[id] || id < 1 {
							t.Fatalf("id %d comes twice, or is none", id)
						}
						seen[id] = true
					}
				}
				for store.Held() > 0 {
					release(store)
				}
				c := newClient(t, store)
				if id, err := c.NextProducerID(t.Context()); err != nil || seen[id] {
					t.Errorf("id %d comes twice (%v)", id, err)
				}
			})
		})
	}
}

// TestProducerIDWaits: who waits behind a caller that etcd keeps waiting is let go by its own context.
func TestProducerIDWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		c := newClient(t, store)
		store.SetUnavailable(true)
		long, stop := context.WithCancel(t.Context())
		first := make(chan error)
		go func() {
			_, err := c.NextProducerID(long)
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.NextProducerID(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second caller: %v", err)
		}
		stop()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller: %v", err)
		}
	})
}

// TestEndOfPatience: what stays unavailable or full ends with the caller's context and says why; what is hopeless ends at once.
func TestEndOfPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		c := newClient(t, store)
		w := startWriter(t, c, 1)
		attempt := func() (time.Duration, error) {
			began := clock.System().Now()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := c.CreateTopic(ctx, "t", 1, meta.DefaultTopicConfig())
			return clock.System().Now().Sub(began), err
		}
		store.SetUnavailable(true)
		if took, err := attempt(); !errors.Is(err, meta.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
			t.Errorf("unavailable: %v after %v", err, took)
		}
		store.SetUnavailable(false)
		store.SetFull(true)
		if took, err := attempt(); !errors.Is(err, meta.ErrNoSpace) || took != 10*time.Second {
			t.Errorf("full: %v after %v", err, took)
		}
		store.SetFull(false)
		if _, err := attempt(); err != nil {
			t.Errorf("after the cause went: %v", err)
		}

		store.Expire(w.reg.Lease)
		if _, err := leadEverything(t.Context(), c, w.reg); !errors.Is(err, meta.ErrLeaseGone) {
			t.Errorf("lead after the lease: %v", err)
		}
		if _, err := c.Register(t.Context(), nodeInfo(1), leaseTime); !errors.Is(err, meta.ErrLeaseGone) {
			t.Errorf("register an incarnation again: %v", err)
		}
		if _, err := store.Txn(t.Context(), meta.Txn{Then: []meta.Op{
			meta.PutOp(c.Keys().Topic("later"), []byte(`{"v":2}`)), meta.PutOp(c.Keys().ProducersNext(), []byte(`{"v":2}`)),
			meta.PutOp(c.Keys().Cluster(), []byte(`{"v":2}`)), meta.PutOp(c.Keys().Head("a"), []byte(`{"v":2}`)),
		}}); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"create":    func() error { _, err := c.CreateTopic(t.Context(), "later", 1, meta.DefaultTopicConfig()); return err },
			"alter":     func() error { _, err := c.AlterTopic(t.Context(), "later", nil); return err },
			"delete":    func() error { _, err := c.DeleteTopic(t.Context(), "t"); return err },
			"producers": func() error { _, err := c.NextProducerID(t.Context()); return err },
			"register":  func() error { _, err := c.Register(t.Context(), nodeInfo(2), leaseTime); return err },
			"cluster":   func() error { _, err := c.EnsureCluster(t.Context(), ""); return err },
			"follow":    func() error { _, err := c.Follow(t.Context(), noLoad, nil); return err },
		} {
			if err := call(); !errors.Is(err, meta.ErrFormat) {
				t.Errorf("%s: a value of a later version: %v", name, err)
			}
		}
		if w := c.KV(); w == nil {
			t.Error("no store")
		}
	})
}
