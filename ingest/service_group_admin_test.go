package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// committedLog tells of a partition what the index knows, for as long as its leader is away.
type committedLog struct {
	*fakeGroupLog
	clock     clock.Clock
	partition int32
	committed int64
	awayUntil time.Time
	asked     *int
}

func (l committedLog) Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	*l.asked++
	topic, states, err := l.fakeGroupLog.Topic(ctx, name)
	for n := range states {
		if p := &states[n]; p.Partition == l.partition && l.clock.Now().Before(l.awayUntil) {
			p.HighWatermark, p.CommittedOffset, p.LogEndOffset, p.fromIndex = l.committed, l.committed, l.committed, true
		}
	}
	return topic, states, err
}

// TestEndOfATopicOnDisk: 10 records were acknowledged, 6 of them are committed, and the leader, which alone knows, is away.
func TestEndOfATopicOnDisk(t *testing.T) {
	tests := map[string]struct {
		durability meta.Durability
		away       time.Duration
		seek       Reason
		end        int64
		lag        int64
	}{
		"on disk, leader back soon":        {meta.DurabilityDisk, 3 * time.Second, "", 10, 4},
		"on disk, leader away":             {meta.DurabilityDisk, time.Hour, ReasonNotLeader, 0, -1},
		"in the object store, leader away": {meta.DurabilityObject, time.Hour, "", 6, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newGroupWorld(t, "a")
				config := meta.DefaultTopicConfig()
				config.Durability = test.durability
				topic, err := w.meta.CreateTopic(t.Context(), "orders", 2, config)
				if err != nil {
					t.Fatal(err)
				}
				w.follow(topic.Revision)
				log := &fakeGroupLog{world: w, partitions: make(map[group.TopicPartition]*fakeGroupPartition), changed: make(chan struct{})}
				for i := range 10 {
					log.append("orders", 0, time.Now(), fmt.Sprint(i)) //nolint:forbidigo // a fake clock
				}
				asked := 0
				s := newGroupService(GroupServiceConfig{
					Groups: w.nodes["a"].groups, Clock: clock.System(), Logger: slog.New(slog.DiscardHandler), Closing: make(chan struct{}),
					Log: committedLog{log, clock.System(), 0, 6, time.Now().Add(test.away), &asked}, //nolint:forbidigo // a fake clock
				})
				seek := func(to *tidemarkv1.GroupSeek) (int64, error) {
					to.Topic, to.Partitions = "orders", []int32{0}
					out, err := s.SeekGroup(t.Context(), &tidemarkv1.SeekGroupRequest{Group: "g", Seeks: []*tidemarkv1.GroupSeek{to}})
					if err != nil {
						return 0, err
					}
					return out.GetOffsets()[0].GetOffset(), nil
				}
				// What is below the committed end, and other partitions, need no leader.
				if at, err := seek(&tidemarkv1.GroupSeek{To: &tidemarkv1.GroupSeek_Offset{Offset: 6}}); err != nil || at != 6 || asked != 1 {
					t.Errorf("seek to 6: %d, %v, asked %d times", at, err, asked)
				}
				at, err := seek(&tidemarkv1.GroupSeek{To: &tidemarkv1.GroupSeek_End{End: true}})
				if ReasonOf(err) != test.seek || at != test.end {
					t.Errorf("seek to the end: %d, %v; want %d, %q", at, err, test.end, test.seek)
				}
				if _, err := seek(&tidemarkv1.GroupSeek{To: &tidemarkv1.GroupSeek_Offset{Offset: 6}}); err != nil {
					t.Fatal(err)
				}
				described, err := s.DescribeGroup(t.Context(), &tidemarkv1.DescribeGroupRequest{Group: "g"})
				if err != nil {
					t.Fatal(err)
				}
				if l := described.GetLag()[0]; l.GetCommitted() != 6 || l.GetLag() != test.lag || (l.GetLagSeconds() < 0) != (test.lag < 0) {
					t.Errorf("lag %v, want %d", l, test.lag)
				}
			})
		})
	}
}

// TestDeleteWhoseAnswerWasLost has the coordinator die over the deletion of a group, which takes place: the node that was asked finds that out, and does not say that
// there is no such group.
func TestDeleteWhoseAnswerWasLost(t *testing.T) {
	w := newServiceWorld(t, "a", "b")
	w.topic("orders", 1)
	a, name := w.nodes["a"], w.ownedBy("a")
	if err := w.commit(a, name, GroupJoined{JoinResult: group.JoinResult{Generation: -1}}, "orders", 0, 3); err != nil {
		t.Fatal(err)
	}
	w.store.FailTxns(metafake.Delay)
	deleted := make(chan error, 1)
	go func() {
		_, err := w.client("b").DeleteGroup(t.Context(), &tidemarkv1.DeleteGroupRequest{Group: name})
		deleted <- err
	}()
	if err := w.store.AwaitHeld(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	a.stop(errors.New("the lease is lost"))
	if result, err := w.store.Release(0); err != nil || !result.Succeeded {
		t.Fatalf("the deletion: %+v, %v", result, err)
	}
	if err := w.store.Revoke(t.Context(), a.reg.Lease); err != nil {
		t.Fatal(err)
	}
	if err := <-deleted; err != nil {
		t.Errorf("the group is gone, and the one who wanted it so is told: %v", err)
	}
	if _, err := w.client("b").DeleteGroup(t.Context(), &tidemarkv1.DeleteGroupRequest{Group: name}); remoteReason(t, err) != ReasonUnknownGroup {
		t.Errorf("deleting it again: %v", err)
	}
}

// TestAssignmentsOfOtherProtocols are not read as if they were those of consumers.
func TestAssignmentsOfOtherProtocols(t *testing.T) {
	m := group.DescribedMember{Assignment: []byte("\x00\x00\x00\x00\x00\x01\x00\x06orders\x00\x00\x00\x01\x00\x00\x00\x02")}
	if got := assignedTo("consumer", m); len(got) != 1 || got[0] != (group.TopicPartition{Topic: "orders", Partition: 2}) {
		t.Errorf("a consumer's: %v", got)
	}
	if got := assignedTo("connect", m); len(got) != 0 {
		t.Errorf("a Connect worker's: %v", got)
	}
	native := group.DescribedMember{Assigned: []group.TopicPartition{{Topic: "orders", Partition: 1}}}
	if got := assignedTo(nativeProtocolType, native); len(got) != 1 {
		t.Errorf("one of ours: %v", got)
	}
}
