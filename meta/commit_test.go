package meta_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// Every rule of the commit's decision, one row each. The answers are built by hand: no store is asked.
func TestDecideCommit(t *testing.T) {
	keys := meta.NewKeys("test")
	guards := meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 7}
	request := meta.CommitRequest{Node: "a", Incarnation: 0xab, Seq: 3, WAL: 100, Record: record("o", span{count: 1})}

	head := func(incarnation meta.Incarnation, seq meta.Seq, mod meta.Revision) *meta.KeyValue {
		return &meta.KeyValue{
			Key: keys.Head("a"), Mod: mod, Create: 1,
			Value: fmt.Appendf(nil, `{"v":1,"incarnation":"%s","seq":%d,"settled":0,"wal":0}`, incarnation, seq),
		}
	}
	node := func(mod meta.Revision) *meta.KeyValue { return &meta.KeyValue{Key: keys.Node("a"), Mod: mod} }
	// disk "" and no topics
	assign := func(mod meta.Revision) *meta.KeyValue {
		return &meta.KeyValue{Key: keys.Assign("a"), Mod: mod, Value: []byte{1, 0, 0}}
	}
	refused := func(node, assign, head *meta.KeyValue) meta.TxnResult {
		return meta.TxnResult{Revision: 50, Gets: []*meta.KeyValue{node, assign, head}}
	}

	for _, row := range []struct {
		name    string
		result  meta.TxnResult
		outcome meta.CommitOutcome
		guards  meta.Guards
		gone    bool
		assigns bool
		err     error
	}{
		{name: "it succeeded", result: meta.TxnResult{Succeeded: true, Revision: 50},
			outcome: meta.CommitDone, guards: meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 50}},
		{name: "an earlier copy succeeded: the head is at this number", result: refused(node(5), assign(6), head(0xab, 3, 40)),
			outcome: meta.CommitDone, guards: meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 40}},
		{name: "an earlier copy succeeded, then the assignment changed", result: refused(node(5), assign(44), head(0xab, 3, 40)),
			outcome: meta.CommitDone, guards: meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 40}},
		{name: "an earlier copy succeeded, then the lease ended", result: refused(nil, assign(6), head(0xab, 3, 40)),
			outcome: meta.CommitDone, guards: meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 40}},
		{name: "the head is above", result: refused(node(5), assign(6), head(0xab, 4, 41)),
			outcome: meta.CommitDone, guards: meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 41}},
		{name: "another incarnation has the head", result: refused(node(45), assign(6), head(0xcd, 0, 45)), outcome: meta.CommitSuperseded},
		{name: "another incarnation has the head, far above", result: refused(node(45), assign(6), head(0xcd, 9, 46)), outcome: meta.CommitSuperseded},
		{name: "there is no head", result: refused(node(5), assign(6), nil), outcome: meta.CommitSuperseded},
		{name: "below, and the assignment changed", result: refused(node(5), assign(44), head(0xab, 2, 7)),
			outcome: meta.CommitRefused, guards: meta.Guards{NodeRev: 5, AssignRev: 44, HeadRev: 7}, assigns: true},
		{name: "below, and the assignment is gone", result: refused(node(5), nil, head(0xab, 2, 7)),
			outcome: meta.CommitRefused, guards: meta.Guards{NodeRev: 5, HeadRev: 7}, assigns: true},
		{name: "below, and the lease has ended", result: refused(nil, assign(6), head(0xab, 2, 7)),
			outcome: meta.CommitRefused, guards: meta.Guards{AssignRev: 6, HeadRev: 7}, gone: true, assigns: true},
		{name: "below, and the registration is another", result: refused(node(45), assign(6), head(0xab, 2, 7)),
			outcome: meta.CommitRefused, guards: meta.Guards{NodeRev: 45, AssignRev: 6, HeadRev: 7}, gone: true, assigns: true},
		{name: "below, and the head moved under us", result: refused(node(5), assign(6), head(0xab, 1, 48)),
			outcome: meta.CommitRefused, guards: meta.Guards{NodeRev: 5, AssignRev: 6, HeadRev: 48}, assigns: true},
		{name: "below, and nothing changed: such an answer decides nothing", result: refused(node(5), assign(6), head(0xab, 2, 7)), outcome: meta.CommitInDoubt},
		{name: "an answer without the three values", result: meta.TxnResult{Revision: 50}, err: meta.ErrFormat},
		{name: "a head that cannot be read", result: refused(node(5), assign(6), &meta.KeyValue{Value: []byte(`{"v":2}`), Mod: 7}), err: meta.ErrFormat},
		{name: "an assignment that cannot be read", result: refused(node(5), &meta.KeyValue{Value: []byte{9}, Mod: 44}, head(0xab, 2, 7)), err: meta.ErrFormat},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := keys.DecideCommit(request, guards, row.result)
			if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
				t.Fatalf("error %v, want %v", err, row.err)
			}
			if d.Outcome != row.outcome || d.Guards != row.guards || d.NodeGone != row.gone || (d.Assignment != nil) != row.assigns {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestCommitTxn(t *testing.T) {
	keys := meta.NewKeys("test")
	request := meta.CommitRequest{
		Node: "a", Incarnation: 0xab, Seq: 3, Record: record("o", span{count: 1}), Replaces: []string{"x", "y"},
		Release: []meta.PartitionEpoch{{Epoch: 2}},
	}
	txn, err := keys.CommitTxn(meta.Guards{NodeRev: 5, HeadRev: 7}, request)
	if err != nil {
		t.Fatal(err)
	}
	want := []meta.Compare{meta.IfMod(keys.Node("a"), 5), meta.IfAbsent(keys.Assign("a")), meta.IfMod(keys.Head("a"), 7)}
	if fmt.Sprint(txn.If) != fmt.Sprint(want) {
		t.Errorf("it compares %v, want %v", txn.If, want)
	}
	again, err := keys.CommitTxn(meta.Guards{NodeRev: 5, HeadRev: 7}, request)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(txn) {
		t.Errorf("the same request gives another transaction: %v (%v)", again, err)
	}
	written := map[string]meta.OpKind{}
	for _, op := range txn.Then {
		written[op.Key] = op.Kind
	}
	if len(written) != 5 || written[keys.L0("a", 0xab, 3)] != meta.Put || written[keys.Head("a")] != meta.Put ||
		written[keys.Release("a")] != meta.Put || written["x"] != meta.Delete || written["y"] != meta.Delete {
		t.Errorf("it writes %v", written)
	}
	if _, err := keys.CommitTxn(meta.Guards{}, meta.CommitRequest{Node: "a"}); err == nil {
		t.Error("a commit of nothing is allowed")
	}
	if _, err := keys.CommitTxn(meta.Guards{}, meta.CommitRequest{Node: "a", Replaces: make([]string, meta.MaxReplaces+1)}); err == nil {
		t.Error("a commit that replaces too much is allowed")
	}
	big := record("o", span{count: 1})
	big.Object = string(make([]byte, meta.MaxTxnBytes))
	if _, err := keys.CommitTxn(meta.Guards{}, meta.CommitRequest{Node: "a", Record: big}); !errors.Is(err, meta.ErrTooLarge) {
		t.Errorf("a commit beyond etcd's limit: %v", err)
	}
}

// A commit whose every copy may be lost, delayed or doubled is in the log once, and the chain goes on.
func TestCommitFaults(t *testing.T) {
	for name, fault := range transactionFaults {
		t.Run(name, func(t *testing.T) {
			store := newStore()
			c := newClient(t, store)
			topic := makeTopic(t, c, "t", 1)
			w := startWriter(t, c, 1)
			for n := range int64(4) {
				request := w.request(record(fmt.Sprintf("o%d", n), span{topic: topic.ID, base: n, count: 1}))
				store.FailTxns(fault, fault)
				sent := 0
				for w.send(request).Outcome != meta.CommitDone {
					if sent++; sent > 3 {
						t.Fatalf("commit %d is not decided", n)
					}
				}
			}
			for store.Held() > 0 { // what was on its way arrives last
				if result, err := store.Release(0); err == nil && result.Succeeded {
					t.Error("a late copy of a commit took effect")
				}
			}
			f := follow(t, c)
			p := meta.Partition{Topic: topic.ID}
			if err := f.Hole(p); err != nil || f.End(p) != 4 || len(f.Records("a")) != 4 {
				t.Errorf("end %d, %d records, %v", f.End(p), len(f.Records("a")), err)
			}
		})
	}
}
