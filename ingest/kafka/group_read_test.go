package kafka

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/meta"
)

// protocols are the ways in which kgo is a member.
func protocols() map[string][]kgo.Opt {
	return map[string][]kgo.Opt{
		"classic":  {kgo.Balancers(kgo.CooperativeStickyBalancer())},
		"eager":    {kgo.Balancers(kgo.RangeBalancer())},
		"kip-848":  {kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()},
		"by range": {kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer()},
	}
}

// fill produces values FROM to TO-1, dealt to the partitions of a topic.
func (w *world) fill(topic meta.Topic, from, to int) {
	w.t.Helper()
	client := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite())
	defer client.Close()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic.Name, Partition: int32(i) % topic.Partitions, Value: fmt.Appendf(nil, "%06d", i)})
	}
	w.must(client.ProduceSync(w.ctx, records...).FirstErr())
}

// take polls until a client has so many values, and returns them sorted.
func (w *world) take(client *kgo.Client, n int) (out []string) {
	w.t.Helper()
	for len(out) < n {
		fetches := client.PollFetches(w.ctx)
		w.must(fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) { out = append(out, string(r.Value)) })
	}
	slices.Sort(out)
	return out
}

// A group reads on where it has committed, whoever reads, and by whatever protocol; and anew from where it is set while nobody reads.
func TestAGroupReadsOnWhereItWas(t *testing.T) {
	quick(t)
	for name, opts := range protocols() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			topic := w.create("orders", 3)
			w.fill(topic, 0, 60)
			start := func() *kgo.Client {
				return w.newClient(append(opts, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit(),
					kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(50*time.Millisecond))...)
			}
			first := start()
			if got := w.take(first, 60); got[0] != "000000" || got[59] != "000059" || len(slices.Compact(got)) != 60 {
				t.Errorf("the first reads %d values, from %s to %s", len(got), got[0], got[59])
			}
			w.must(first.CommitUncommittedOffsets(w.ctx))
			first.Close()
			w.fill(topic, 60, 90)
			second := start()
			if got := w.take(second, 30); got[0] != "000060" || len(got) != 30 {
				t.Errorf("the second reads %d values, from %s", len(got), got[0])
			}
			w.must(second.CommitUncommittedOffsets(w.ctx))
			second.Close()
			w.eventually("the group is empty", func() bool {
				view, err := w.nodes[0].groups.View(w.ctx, "readers")
				return err == nil && len(view.Members) == 0
			})
			back := commitOf("readers", topic, 1, 28, "")
			back.Topics[0].Partitions[0].LeaderEpoch = -1
			answer := askWire[*kmsg.OffsetCommitResponse](w.dial(w.nodes[0]), 8, back)
			if code := answer.Topics[0].Partitions[0].ErrorCode; code != 0 {
				t.Fatalf("setting an offset from outside: %d", code)
			}
			if got := w.take(start(), 2); fmt.Sprint(got) != "[000085 000088]" {
				t.Errorf("the third reads %v", got)
			}
		})
	}
}

// While members come and go every record is read, and what was committed is not read again by who takes a partition over in good order.
func TestMembersComeAndGoUnderLoad(t *testing.T) {
	quick(t)
	for name, opts := range protocols() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			topic := w.create("orders", 6)
			got := make(chan string, 100_000)
			start := func() (leave func()) {
				client := w.newClient(append(opts, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("orders"), kgo.AutoCommitMarks(),
					kgo.AutoCommitInterval(100*time.Millisecond), kgo.BlockRebalanceOnPoll(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
					kgo.HeartbeatInterval(20*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond))...)
				reading, stop := context.WithCancel(w.ctx)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for reading.Err() == nil {
						fetches := client.PollRecords(reading, 100)
						fetches.EachRecord(func(r *kgo.Record) { got <- string(r.Value) })
						client.MarkCommitRecords(fetches.Records()...)
						client.AllowRebalance()
					}
				}()
				return func() {
					stop()
					<-ended
					client.CloseAllowingRebalance()
				}
			}
			const total = 6000
			seen := make(map[string]int)
			until := func(n int) {
				for len(seen) < n {
					select {
					case v := <-got:
						seen[v]++
					case <-w.ctx.Done():
						t.Fatalf("%d of %d records were read", len(seen), n)
					}
				}
			}
			stopA := start()
			w.fill(topic, 0, 1000)
			until(1000)
			stopB, stopC := start(), start()
			w.fill(topic, 1000, 3000)
			until(2500)
			stopB()
			w.fill(topic, 3000, 5000)
			until(4500)
			stopA()
			w.fill(topic, 5000, total)
			until(total)
			stopC()
			twice := 0
			for len(got) > 0 {
				seen[<-got]++
			}
			for _, n := range seen {
				twice += n - 1
			}
			if twice > 0 {
				t.Errorf("%d of %d records were read twice", twice, total)
			}
		})
	}
}
