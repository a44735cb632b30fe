package meta

import (
	"errors"
	"fmt"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// MaxReplaces is how many records one commit can replace: etcd allows 128 operations a transaction.
const MaxReplaces = 100

// Guards are the mod revisions that a commit compares. Revisions never come back, so a transaction whose guards no longer
// hold can never succeed, however late a copy of it arrives.
type Guards struct{ NodeRev, AssignRev, HeadRev Revision }

// CommitRequest is one link in the chain of a node's commits.
type CommitRequest struct {
	Node        NodeID
	Incarnation Incarnation
	// Seq is one above the last.
	Seq     Seq
	Settled Seq    // see Head
	WAL     uint64 // see Head
	Disk    string // see Head
	// Record is the object that becomes part of the log; nil when the commit only removes or releases.
	Record *L0Record
	// Release are the partitions that the node lets go with this commit, at the epochs it led them, and all that it let go
	// before and was not assigned anew: the value replaces the earlier one. Empty, the earlier one stays.
	Release []PartitionEpoch
	// Replaces are keys of records that Record stands for from now on, at most MaxReplaces.
	Replaces []string
}

// CommitTxn builds the transaction of a commit: if registration, assignment and head are at the revisions of g, put record
// and head, else read all three. Pure: the same request gives the same transaction.
func (k Keys) CommitTxn(g Guards, r CommitRequest) (Txn, error) {
	if len(r.Replaces) > MaxReplaces {
		return Txn{}, fmt.Errorf("commit replaces %d records, more than %d", len(r.Replaces), MaxReplaces)
	}
	if r.Record == nil && len(r.Replaces) == 0 && len(r.Release) == 0 {
		return Txn{}, errors.New("commit changes nothing")
	}
	txn := Txn{
		If: k.commitCompares(g, r),
		Then: []Op{PutOp(k.Head(r.Node), encodeHead(Head{
			Incarnation: r.Incarnation, Seq: r.Seq, Settled: r.Settled, WAL: r.WAL, Disk: r.Disk,
		}))},
		Else: []Op{GetOp(k.Node(r.Node)), GetOp(k.Assign(r.Node)), GetOp(k.Head(r.Node))},
	}
	if mutant.On(mutant.A2) || mutant.On(mutant.A4) {
		txn.Else[2] = GetOp(k.L0(r.Node, r.Incarnation, r.Seq))
	}
	if r.Record != nil {
		txn.Then = append(txn.Then, PutOp(k.L0(r.Node, r.Incarnation, r.Seq), r.Record.Encode()))
	}
	if len(r.Release) > 0 {
		epochs := make(map[Partition]Epoch, len(r.Release))
		for _, p := range r.Release {
			epochs[p.Partition] = p.Epoch
		}
		txn.Then = append(txn.Then, PutOp(k.Release(r.Node), encodeRelease(epochs)))
	}
	for _, key := range r.Replaces {
		txn.Then = append(txn.Then, DeleteOp(key))
	}
	return txn, txn.Validate()
}

// commitCompares are the conditions of a commit: registration, assignment and head are as the node knows them.
func (k Keys) commitCompares(g Guards, r CommitRequest) []Compare {
	node, assign, head := IfMod(k.Node(r.Node), g.NodeRev), IfMod(k.Assign(r.Node), g.AssignRev), IfMod(k.Head(r.Node), g.HeadRev)
	switch {
	case mutant.On(mutant.A3):
		return []Compare{node, assign}
	case mutant.On(mutant.A2), mutant.On(mutant.A4):
		return []Compare{node, assign, IfAbsent(k.L0(r.Node, r.Incarnation, r.Seq))}
	case mutant.On(mutant.A6):
		return []Compare{IfCreate(k.Node(r.Node), g.NodeRev), assign}
	case mutant.On(mutant.NoLiveness):
		return []Compare{assign, head}
	case mutant.On(mutant.NoAssignment):
		return []Compare{node, head}
	}
	return []Compare{node, assign, head}
}

// CommitOutcome is what an answer of etcd says about a commit.
type CommitOutcome uint8

const (
	// CommitInDoubt: the answer decides nothing. The same transaction must be sent again.
	CommitInDoubt CommitOutcome = iota
	// CommitDone: the commit is in the log.
	CommitDone
	// CommitRefused: it is not, and never will be.
	CommitRefused
	// CommitSuperseded: another incarnation has the head; whether the commit came before is unknown.
	CommitSuperseded
)

// CommitDecision is the outcome with what the next step needs.
type CommitDecision struct {
	Outcome CommitOutcome
	// Guards are those to use next; all three when refused, the head's when done.
	Guards Guards
	// Assignment is the present one, when refused and there is one.
	Assignment *Assignment
	// NodeGone: the registration is gone or another's, when refused.
	NodeGone bool
}

// DecideCommit reads the answer to CommitTxn(g, r). Pure.
//
//   - The transaction succeeded, or the head shows this incarnation at this sequence or above (an earlier copy of the same
//     transaction had succeeded): done.
//   - The head shows another incarnation: superseded.
//   - The one snapshot of the answer shows the head below and a guard at another revision: refused, for ever.
//   - Anything else: in doubt.
//
// A missing answer is in doubt too, and never comes here.
func (k Keys) DecideCommit(r CommitRequest, g Guards, result TxnResult) (CommitDecision, error) {
	if result.Succeeded {
		return CommitDecision{Outcome: CommitDone, Guards: Guards{NodeRev: g.NodeRev, AssignRev: g.AssignRev, HeadRev: result.Revision}}, nil
	}
	if len(result.Gets) != 3 {
		return CommitDecision{}, fmt.Errorf("%w: a refused commit was answered with %d values, not 3", ErrFormat, len(result.Gets))
	}
	node, assign, head := result.Gets[0], result.Gets[1], result.Gets[2]
	if mutant.On(mutant.A2) || mutant.On(mutant.A4) {
		if head != nil { // the record is there, so it must be ours
			return CommitDecision{Outcome: CommitDone, Guards: g}, nil
		}
		head = &KeyValue{Value: encodeHead(Head{Incarnation: r.Incarnation, Seq: r.Seq - 1}), Mod: g.HeadRev}
	}
	if head == nil {
		return CommitDecision{Outcome: CommitSuperseded}, nil // heads are never removed: not our history any more
	}
	h, err := decodeHead(*head)
	if err != nil {
		return CommitDecision{}, err
	}
	switch {
	case h.Incarnation != r.Incarnation:
		return CommitDecision{Outcome: CommitSuperseded}, nil
	case h.Seq >= r.Seq:
		return CommitDecision{Outcome: CommitDone, Guards: Guards{NodeRev: g.NodeRev, AssignRev: g.AssignRev, HeadRev: head.Mod}}, nil
	}
	now := Guards{HeadRev: head.Mod}
	if node != nil {
		now.NodeRev = node.Mod
	}
	if assign != nil {
		now.AssignRev = assign.Mod
	}
	if now == g {
		return CommitDecision{Outcome: CommitInDoubt}, nil
	}
	out := CommitDecision{Outcome: CommitRefused, Guards: now, NodeGone: now.NodeRev != g.NodeRev}
	if assign == nil {
		out.Assignment = &Assignment{Node: r.Node, Epochs: map[Partition]Epoch{}}
		return out, nil
	}
	a, err := decodeAssignment(r.Node, *assign)
	if err != nil {
		return CommitDecision{}, err
	}
	out.Assignment = &a
	return out, nil
}
