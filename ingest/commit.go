package ingest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

// committer is the step machine that makes stored objects part of the log: one etcd transaction at a time, flushes in the
// order of their cuts. It does no I/O and holds no clock.
//
// A transaction has three outcomes. Done: it succeeded, or the head shows this incarnation at this sequence or above.
// Refused: one snapshot shows the head below and a guard changed; it can never succeed any more, so the job is sent anew
// under the guards of that snapshot, without the partitions whose epoch is no longer assigned. In doubt: everything else.
// In doubt the same transaction is sent again until etcd decides, however long; meanwhile nothing is answered, no offset is
// reused, no assignment is applied and nothing is deleted.
//
// The simple version reads the record back after a missing answer and believes "absent". It is wrong: the request may still
// be on its way, and the record of a commit that did happen may have been folded away since (docs/architecture.md).
//
// Whatever is sent also lets go what can be let go with it: partitions that are to leave, and of which nothing is uncommitted once this
// transaction is done. When there is nothing else to commit, a transaction that only lets go is sent. All that is ready goes with one.
// A release stands by the epoch, so it is kept until the partition is assigned anew or to another node, and dropped then.
type committer struct {
	keys        meta.Keys
	node        meta.NodeID
	incarnation meta.Incarnation
	disk        string
	leaving     leavingView

	guards   meta.Guards
	assigned map[meta.Partition]meta.Epoch // the assignment at guards.AssignRev
	seq      meta.Seq                      // of the last commit that is done

	flushes queue[*commitJob] // cut order; committed when stored
	folds   queue[*commitJob] // stored already
	foldDue bool              // a flush went last, so a waiting fold goes next
	numbers map[meta.Seq]bool // objects cut or being folded and not yet settled
	highest meta.Seq          // the highest object number given

	released  map[meta.Partition]meta.Epoch // release/<node>, as of the last commit that is done; shared, read only
	releasing map[meta.Partition]meta.Epoch // what the transaction with etcd lets go besides

	current  *commitJob
	request  meta.CommitRequest
	sentWith meta.Guards
	txn      meta.Txn
	sent     bool // a transaction is with etcd, or in doubt between two sends
	failures int
}

// commitJob is one object on its way into the log.
type commitJob struct {
	number   meta.Seq // names the object
	record   *meta.L0Record
	entries  []*entry // what a flush holds; nil for a fold
	stored   bool     // Put has returned nil
	replaces []string // keys of the records that a fold replaces
	cutAt    time.Time
	// committed, if set, takes the revision of the commit and has room for it.
	committed chan meta.Revision
}

func (j *commitJob) isFold() bool { return len(j.replaces) > 0 }

// isRelease tells whether the job holds nothing: it only lets go.
func (j *commitJob) isRelease() bool { return j.number == 0 }

// leavingView is what a committer needs to know of the partitions that are to be let go. It answers for the moment of the call.
type leavingView interface {
	// ready lists the partitions that are to be let go and have nothing uncommitted, or will have nothing once everything below ends
	// is committed, with the epochs at which they are led. ends is called only when something is to be let go.
	ready(ends func() map[meta.Partition]int64) map[meta.Partition]meta.Epoch
}

// commitEvent is what can happen to a committer.
type commitEvent interface{ isCommitEvent() }

type (
	// flushCut: an object was cut; its place in the order is fixed.
	flushCut struct{ job *commitJob }
	// objectStored: a cut or folded object is in the store.
	objectStored struct{ job *commitJob }
	// foldAbandoned: a fold came to nothing; its number will not be committed.
	foldAbandoned struct{ number meta.Seq }
	// commitAnswered: etcd decided.
	commitAnswered struct {
		result meta.TxnResult
		now    time.Time
	}
	// commitFailed: the answer is missing. now is the time.
	commitFailed struct {
		err error
		now time.Time
	}
	// commitRetry: the pause after a failure is over.
	commitRetry struct{}
	// assignmentRead: the index shows this assignment. Only between transactions.
	assignmentRead struct{ assignment meta.Assignment }
	// leavingChanged: other partitions are to be let go than before.
	leavingChanged struct{}
)

func (flushCut) isCommitEvent()       {}
func (objectStored) isCommitEvent()   {}
func (foldAbandoned) isCommitEvent()  {}
func (commitAnswered) isCommitEvent() {}
func (commitFailed) isCommitEvent()   {}
func (commitRetry) isCommitEvent()    {}
func (assignmentRead) isCommitEvent() {}
func (leavingChanged) isCommitEvent() {}

// commitEffects is what the node must do after a step.
type commitEffects struct {
	// send is a transaction to send to etcd, once; its answer comes back as commitAnswered or commitFailed.
	send *meta.Txn
	// retryAt asks for commitRetry at this time.
	retryAt time.Time
	// done is a job whose commit is decided, at revision; excluded lists the partitions that were left out of it.
	done     *commitJob
	revision meta.Revision
	excluded map[meta.Partition]bool
	// released are the partitions that done has let go, and may not be led any more.
	released map[meta.Partition]meta.Epoch
	// assignment is a newer one that a refusal showed: apply it, then step again with it as assignmentRead.
	assignment *meta.Assignment
	// abandoned is a job that is taken for failed, only with a mutant.
	abandoned *commitJob
	// lost: this incarnation is over: its lease or its head is gone. What is uncommitted has an unknown outcome.
	lost error
}

// idle tells whether an assignment may be applied: nothing is with etcd or in doubt.
func (c *committer) idle() bool { return !c.sent }

// pending counts the objects that are cut and not committed.
func (c *committer) pending() int {
	n := c.flushes.len() + c.folds.len()
	if c.current != nil {
		n++
	}
	return n
}

// nextNumber gives a number to a new object. It counts as unsettled until it is committed or abandoned.
func (c *committer) nextNumber() meta.Seq {
	c.highest++
	c.numbers[c.highest] = true
	return c.highest
}

// settled is the number up to which every object is committed or never will be, the one of job apart.
func (c *committer) settled(job meta.Seq) meta.Seq {
	lowest := c.highest + 1
	for n := range c.numbers {
		if n != job && n < lowest {
			lowest = n
		}
	}
	return lowest - 1
}

// Step applies one event. durable is what the log on disk is known to have synced, for the head.
func (c *committer) Step(event commitEvent, durable uint64) (commitEffects, error) {
	var out commitEffects
	switch e := event.(type) {
	case flushCut:
		c.flushes.push(e.job)
	case objectStored:
		e.job.stored = true
		if e.job.isFold() {
			c.folds.push(e.job)
		}
	case foldAbandoned:
		delete(c.numbers, e.number)
	case commitAnswered:
		if err := c.decide(e.result, e.now, &out); err != nil {
			return out, err
		}
		if out.assignment != nil || out.lost != nil || c.sent {
			return out, nil //nolint:nilerr // lost is an effect for the node, no failure of the step
		}
	case commitFailed:
		if mutant.On(mutant.A3) || mutant.On(mutant.A3b) {
			return c.forgetDoubt(e.now), nil
		}
		c.failures++
		out.retryAt = e.now.Add(commitBackoff(c.failures))
		return out, nil
	case commitRetry:
		if mutant.On(mutant.A3b) && !c.sent {
			break
		}
		if c.sent && c.failures > 0 {
			out.send = &c.txn // the same one
		}
		return out, nil
	case assignmentRead:
		if c.sent {
			panic("committer: assignment applied while a commit is undecided")
		}
		if e.assignment.Revision >= c.guards.AssignRev {
			c.guards.AssignRev, c.assigned = e.assignment.Revision, e.assignment.Epochs
		}
	case leavingChanged:
	default:
		panic(fmt.Sprintf("committer: unknown event %T", event))
	}
	err := c.begin(durable, &out)
	return out, err
}

// begin sends the next job if nothing is with etcd.
func (c *committer) begin(durable uint64, out *commitEffects) error {
	if c.sent || out.done != nil {
		return nil // the node hears of the finished job first, then steps on with nudge
	}
	if c.current == nil {
		c.current = c.take()
	}
	job := c.current
	if job == nil {
		job = &commitJob{}
	}
	excluded := c.excluded(job)
	if !job.isFold() && !job.isRelease() && nothingLeft(job.entries, excluded) {
		// Nothing is left of it. No record will ever name the object.
		c.finish(out, job, excluded)
		return nil
	}
	releasing := c.leaving.ready(func() map[meta.Partition]int64 { return endsOf(job.entries, excluded) })
	if job.isRelease() && len(releasing) == 0 {
		return nil
	}
	c.current, c.releasing = job, releasing
	seq := c.seq + 1
	c.request = meta.CommitRequest{
		Node: c.node, Incarnation: c.incarnation, Seq: seq, Settled: c.settled(job.number), WAL: durable, Disk: c.disk, Replaces: job.replaces,
		Release: c.release(),
	}
	if job.record != nil { // a fold of deleted topics leaves nothing
		record := *job.record
		record.Seq, record.Excluded = seq, sortedPartitions(excluded)
		c.request.Record = &record
	}
	txn, err := c.keys.CommitTxn(c.guards, c.request)
	if err != nil {
		return fmt.Errorf("build commit %d: %w", seq, err)
	}
	c.txn, c.sentWith, c.sent, c.failures = txn, c.guards, true, 0
	out.send = &c.txn
	return nil
}

// nudge begins the next job after the node has applied a finished one.
func (c *committer) nudge(durable uint64) (commitEffects, error) {
	var out commitEffects
	err := c.begin(durable, &out)
	return out, err
}

// take picks the next stored job: flushes in order, and a fold after a flush or when no flush is ready.
func (c *committer) take() *commitJob {
	flushReady := c.flushes.len() > 0 && (*c.flushes.peek()).stored
	if c.folds.len() > 0 && (c.foldDue || !flushReady) {
		c.foldDue = false
		return c.folds.pop()
	}
	if flushReady {
		c.foldDue = true
		return c.flushes.pop()
	}
	return nil
}

// forgetDoubt is what two mutants do when an answer is missing: one takes the commit for failed, the other for not sent.
func (c *committer) forgetDoubt(now time.Time) commitEffects {
	c.sent = false
	if mutant.On(mutant.A3) {
		out := commitEffects{abandoned: c.current}
		c.current = nil
		return out
	}
	return commitEffects{retryAt: now.Add(commitBackoff(1))} // idle until then
}

// excluded is the set of the job's partitions whose batches carry an epoch that is not assigned any more.
func (c *committer) excluded(job *commitJob) map[meta.Partition]bool {
	var out map[meta.Partition]bool
	for _, e := range job.entries {
		epoch, led := c.assigned[e.partition]
		if epoch != e.epoch && !(led && mutant.On(mutant.A5)) {
			if out == nil {
				out = make(map[meta.Partition]bool)
			}
			out[e.partition] = true
		}
	}
	return out
}

// release is what release/<node> must hold for the transaction to let go what it is to: that, and all that was let go before and is
// still assigned at the same epoch. Empty when nothing is let go, so that the value stays as it is.
func (c *committer) release() []meta.PartitionEpoch {
	if len(c.releasing) == 0 {
		return nil
	}
	all := maps.Clone(c.releasing)
	for id, epoch := range c.released {
		if c.assigned[id] == epoch {
			all[id] = epoch
		}
	}
	out := make([]meta.PartitionEpoch, 0, len(all))
	for _, id := range sortedPartitions(all) {
		out = append(out, meta.PartitionEpoch{Partition: id, Epoch: all[id]})
	}
	return out
}

// hasReleased tells whether a partition was let go at an epoch, in this incarnation or one before: it must not be led at it again.
func (c *committer) hasReleased(id meta.Partition, epoch meta.Epoch) bool {
	e, ok := c.released[id]
	return ok && e == epoch
}

// endsOf is where the batches of an object end, by partition, but for those of excluded partitions.
func endsOf(entries []*entry, excluded map[meta.Partition]bool) map[meta.Partition]int64 {
	ends := make(map[meta.Partition]int64)
	for _, e := range entries {
		if !excluded[e.partition] {
			ends[e.partition] = max(ends[e.partition], e.next)
		}
	}
	return ends
}

// nothingLeft tells whether every batch of an object is of an excluded partition.
func nothingLeft(entries []*entry, excluded map[meta.Partition]bool) bool {
	return !slices.ContainsFunc(entries, func(e *entry) bool { return !excluded[e.partition] })
}

func (c *committer) decide(result meta.TxnResult, now time.Time, out *commitEffects) error {
	decision, err := c.keys.DecideCommit(c.request, c.sentWith, result)
	if err != nil {
		return fmt.Errorf("read the outcome of commit %d: %w", c.request.Seq, err)
	}
	switch decision.Outcome {
	case meta.CommitDone:
		c.sent, c.failures = false, 0
		c.seq = c.request.Seq
		c.guards.HeadRev = decision.Guards.HeadRev
		excluded := make(map[meta.Partition]bool)
		if c.request.Record != nil {
			for _, p := range c.request.Record.Excluded {
				excluded[p] = true
			}
		}
		if len(c.request.Release) > 0 {
			c.released = make(map[meta.Partition]meta.Epoch, len(c.request.Release))
			for _, p := range c.request.Release {
				c.released[p.Partition] = p.Epoch
			}
		}
		out.released = c.releasing
		c.finish(out, c.current, excluded)
		out.revision = result.Revision
	case meta.CommitRefused:
		c.sent, c.failures = false, 0
		c.releasing = nil
		if c.current.isRelease() {
			c.current = nil // what is ready then goes with what is sent next
		}
		if decision.NodeGone || decision.Assignment == nil {
			out.lost = fmt.Errorf("node %s: its registration in etcd is gone: the lease expired, or another start took over", c.node)
			return nil
		}
		if decision.Guards.AssignRev == 0 {
			// Nobody removes it in earnest. It has no revision that would order it among other assignments, so it is not applied.
			out.lost = fmt.Errorf("node %s: its assignment in etcd is gone", c.node)
			return nil
		}
		c.guards = decision.Guards
		out.assignment = decision.Assignment
	case meta.CommitSuperseded:
		c.sent = false
		out.lost = fmt.Errorf("node %s: another incarnation of it has taken over", c.node)
	default:
		// The answer decides nothing: in doubt. Send the same again.
		c.failures++
		out.retryAt = now.Add(commitBackoff(c.failures))
	}
	return nil
}

func (c *committer) finish(out *commitEffects, job *commitJob, excluded map[meta.Partition]bool) {
	delete(c.numbers, job.number)
	c.current, c.releasing = nil, nil
	out.done, out.excluded = job, excluded
}

// commitBackoff is the pause before the n-th repetition.
func commitBackoff(n int) time.Duration {
	pause := 20 * time.Millisecond << min(n-1, 6)
	return min(pause, time.Second)
}
