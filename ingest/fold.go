package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/failpoint"
	"github.com/tidemark-io/tidemark/tier"
)

// runFolder keeps the number of this node's L0 records small: whenever a commit has added one it asks tier.PlanFold which
// small objects to merge, merges them, and has the committer replace their records in its chain. One fold at a time, and the
// next is planned only from an index that shows the last: folding a record twice would put its batches into the log twice.
func (i *incarnation) runFolder(ctx context.Context) {
	for {
		for {
			again, err := i.foldOnce(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				i.node.deps.Logger.Warn("small objects could not be merged; it is tried again", "cause", err)
				if !pause(ctx, i.clock(), 5*time.Second) {
					return
				}
			}
			if !again {
				break
			}
		}
		if i.full { // nothing is committed any more that would wake us; a deleted topic makes room
			if !pause(ctx, i.clock(), time.Second) {
				return
			}
			continue
		}
		select {
		case <-i.foldDue:
		case <-ctx.Done():
			return
		}
	}
}

// foldOnce performs one fold if one is due, and tells whether another may be.
func (i *incarnation) foldOnce(ctx context.Context) (bool, error) {
	node := i.node.config.Node
	records := i.follower.Records(node)
	full := len(records) >= tier.MaxRecords
	i.full = full
	i.post(func(now time.Time) { i.core.recordsFull(full, now) })
	inputs := i.deadRecords(records)
	if len(inputs) == 0 {
		records = slices.DeleteFunc(records, func(r *meta.L0Record) bool { return i.unreadable[r.Object] })
		candidates := make([]tier.FoldCandidate, len(records))
		for n, r := range records {
			candidates[n] = tier.FoldCandidate{Incarnation: r.Incarnation, Seq: r.Seq, Size: r.Size, Entries: len(r.Index.Entries)}
		}
		for _, n := range tier.PlanFold(candidates) {
			inputs = append(inputs, records[n])
		}
	}
	if len(inputs) == 0 {
		return false, nil
	}
	replaces := make([]string, len(inputs))
	for n, r := range inputs {
		replaces[n] = i.node.deps.Meta.Keys().L0(node, r.Incarnation, r.Seq)
	}

	job := &commitJob{replaces: replaces, cutAt: i.clock().Now(), committed: make(chan meta.Revision, 1)}
	if !i.postWait(func(time.Time) { job.number = i.core.foldNumber() }) {
		return false, nil
	}
	record, err := i.fold(ctx, job.number, inputs)
	if err != nil {
		i.post(func(now time.Time) { i.core.foldAbandoned(job.number, now) })
		i.noteUnreadable(err)
		return true, fmt.Errorf("fold %d objects: %w", len(inputs), err)
	}
	job.record = record
	if !i.post(func(now time.Time) { i.core.uploaded(job, now) }) {
		return false, nil
	}
	var revision meta.Revision
	select {
	case revision = <-job.committed:
		failpoint.Here(failpoint.FoldAfterCommit)
	case <-ctx.Done():
		return false, nil
	}
	if err := i.follower.WaitFor(ctx, revision); err != nil {
		return false, err
	}
	for _, in := range inputs {
		i.discard(in.Object)
	}
	return true, nil
}

// fold builds and stores the merged object. Nil stands for an object that nothing is left of.
func (i *incarnation) fold(ctx context.Context, number meta.Seq, inputs []*meta.L0Record) (*meta.L0Record, error) {
	object, err := tier.Fold(ctx, i.node.deps.Store, inputs, func(e meta.L0Entry) bool {
		_, alive := i.follower.TopicByID(e.Topic)
		return alive
	})
	if err != nil {
		return nil, err
	}
	if len(object.Index.Entries) == 0 {
		return nil, nil //nolint:nilnil // see above
	}
	failpoint.Here(failpoint.FoldBeforePut)
	return i.uploader.put(ctx, number, object, len(object.Index.Entries), func(err error) {
		i.node.deps.Logger.Debug("store a merged object", "cause", err)
	})
}

// noteUnreadable keeps an object that cannot be read from failing every fold to come. It stays as it is, for whoever mends it.
func (i *incarnation) noteUnreadable(err error) {
	var corrupt *tier.CorruptionError
	var failed *tier.Error
	switch {
	case errors.As(err, &corrupt):
		i.unreadable[corrupt.Object] = true
	case errors.As(err, &failed) && errors.Is(err, tier.ErrNotFound):
		i.unreadable[failed.Name] = true
	}
}

// deadRecords picks records whose every topic was deleted: folding them leaves nothing.
func (i *incarnation) deadRecords(records []*meta.L0Record) []*meta.L0Record {
	var out []*meta.L0Record
	for _, r := range records {
		alive := slices.ContainsFunc(r.Topics(), func(id meta.TopicID) bool {
			_, ok := i.follower.TopicByID(id)
			return ok
		})
		if !alive && len(out) < meta.MaxReplaces {
			out = append(out, r)
		}
	}
	return out
}

// postWait posts an event and waits until it has run. False: it will not.
func (i *incarnation) postWait(event func(now time.Time)) bool {
	ran := make(chan struct{})
	if !i.post(func(now time.Time) { event(now); close(ran) }) {
		return false
	}
	<-ran
	return true
}
