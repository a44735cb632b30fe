// Package clusterbench measures a cluster over a real etcd: how soon partitions are led again, what ten thousand of them cost, how fast groups
// rebalance and commit. It stands apart from the tests of package ingest, which need not link an etcd.
package clusterbench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/embedded"
)

// BenchmarkOffsetCommits is members that commit one offset after the other, each waiting for the answer, over a real etcd: 50 groups of one
// member, one group of 50, and one member with 50 commits at a time. It prints commits answered a second, and commits to a write.
func BenchmarkOffsetCommits(b *testing.B) {
	server, err := embedded.Start(embedded.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Close() })
	client, err := meta.New(meta.Config{KV: server.KV(), Cluster: "bench", Clock: clock.System(), Random: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	reg, err := client.Register(b.Context(), meta.NodeInfo{ID: "a", Incarnation: 1, Disk: "d", Roles: []string{"ingest"}}, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	topic, err := client.CreateTopic(b.Context(), "orders", 50, meta.DefaultTopicConfig())
	if err != nil {
		b.Fatal(err)
	}
	index, err := client.Follow(b.Context(), func(context.Context, *meta.L0Record) (meta.L0Index, error) {
		return meta.L0Index{}, errors.New("no objects here")
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(index.Close)
	if err := index.WaitFor(b.Context(), topic.Revision); err != nil {
		b.Fatal(err)
	}
	for _, shape := range []struct{ groups, members, commits int }{{50, 1, 1}, {1, 50, 1}, {1, 1, 50}, {1, 1, 1}} {
		b.Run(fmt.Sprintf("groups=%d/members=%d/commits=%d", shape.groups, shape.members, shape.commits), func(b *testing.B) {
			groups, err := ingest.NewGroups(ingest.GroupsConfig{
				Store: client, Clock: clock.System(), Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
				Seat: func() (ingest.GroupSeat, error) {
					return ingest.GroupSeat{Context: b.Context(), Registration: reg, Index: index}, nil
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer groups.Close()
			var joins sync.WaitGroup
			members := make([]ingest.GroupCommit, shape.groups*shape.members)
			for i := range members {
				joins.Go(func() {
					name := fmt.Sprintf("%s-%d", b.Name(), i/shape.members)
					join := group.Join{SessionTimeout: time.Minute, RebalanceTimeout: time.Minute, Subscription: &group.Subscription{Topics: []string{"orders"}}}
					for {
						m, err := groups.Join(b.Context(), name, join)
						if err != nil {
							b.Error(err)
							return
						}
						members[i] = ingest.GroupCommit{Group: name, MemberID: m.MemberID, Generation: m.Generation}
						if m.Members == shape.members {
							return
						}
						join.MemberID = m.MemberID
					}
				})
			}
			joins.Wait()
			before, err := client.Revision(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var work sync.WaitGroup
			for i, member := range members {
				for n := range shape.commits {
					work.Go(func() {
						for offset := int64(0); left.Add(-1) >= 0; offset++ {
							c := member
							c.Offsets = []ingest.GroupCommitOffset{{Topic: "orders", Partition: int32((i + n) % 50), Offset: offset, LeaderEpoch: -1}}
							if errs, err := groups.Commit(b.Context(), c); err != nil || errs[0] != nil {
								b.Error(err, errs)
								return
							}
						}
					})
				}
			}
			work.Wait()
			b.StopTimer()
			after, err := client.Revision(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(b.N)/float64(max(after-before, 1)), "commits/write")
		})
	}
}
