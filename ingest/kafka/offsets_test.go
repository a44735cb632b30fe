package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// listing asks for one offset of one partition.
func listing(topic meta.Topic, partition int32, timestamp int64) *kmsg.ListOffsetsRequest {
	q := kmsg.NewPtrListOffsetsRequest()
	q.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic.Name
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, timestamp
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

// offsetInWords puts the answer to listing into words: offset @ timestamp, or the error.
func offsetInWords(a *kmsg.ListOffsetsResponse) string {
	p := a.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return codeInWords(p.ErrorCode)
	}
	return fmt.Sprintf("%d@%d", p.Offset, p.Timestamp)
}

// Every kind of offset, in every version that knows it, from memory and from the object store.
func TestListOffsets(t *testing.T) {
	for where, change := range map[string]func(*ingest.Config, *Config){"memory": func(*ingest.Config, *Config) {}, "object store": coldTail} {
		t.Run(where, func(t *testing.T) {
			w := newWorld(t, 1, change)
			topic := w.create("t", 2)
			for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression()} {
				producer := w.newClient(kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(50*time.Millisecond))
				var records []*kgo.Record
				for _, at := range []int64{1000, 3000, 2000, 3000} { // the second batch is later by 5,000
					if codec == kgo.ZstdCompression() {
						at += 5000
					}
					records = append(records, &kgo.Record{Topic: "t", Timestamp: time.UnixMilli(at), Value: []byte(strings.Repeat("x", 100))})
				}
				w.must(producer.ProduceSync(w.ctx, records...).FirstErr())
			}
			c := w.dial(w.nodes[0])
			for version := int16(1); version <= 11; version++ {
				for _, s := range []struct {
					timestamp int64
					since     int16
					want      string
					empty     string // of a partition without records
				}{
					{-1, 1, "8@-1", "0@-1"},
					{-2, 1, "0@-1", "0@-1"},
					{0, 1, "0@1000", "-1@-1"},
					{1000, 1, "0@1000", "-1@-1"},
					{1001, 1, "1@3000", "-1@-1"},
					{3001, 1, "4@6000", "-1@-1"},
					{6001, 1, "5@8000", "-1@-1"},
					{8001, 1, "-1@-1", "-1@-1"},
					{-3, 7, "5@8000", "-1@-1"},
					{-4, 8, "0@-1", "0@-1"},
					{-5, 9, "8@-1", "0@-1"},
					{-6, 11, "8@-1", "0@-1"},
					{-7, 1, "UNSUPPORTED_VERSION", "UNSUPPORTED_VERSION"},
				} {
					if version < s.since {
						continue
					}
					for isolation := range int8(2) {
						q := listing(topic, 0, s.timestamp)
						q.IsolationLevel = isolation
						a := askWire[*kmsg.ListOffsetsResponse](c, version, q)
						if said := offsetInWords(a); said != s.want {
							t.Errorf("version %d, %d: %s, want %s", version, s.timestamp, said, s.want)
						}
						if p := a.Topics[0].Partitions[0]; version >= 4 && p.Offset >= 0 && p.LeaderEpoch != 1 {
							t.Errorf("version %d, %d: epoch %d", version, s.timestamp, p.LeaderEpoch)
						}
					}
					if said := offsetInWords(askWire[*kmsg.ListOffsetsResponse](c, version, listing(topic, 1, s.timestamp))); said != s.empty {
						t.Errorf("version %d, %d of nothing: %s, want %s", version, s.timestamp, said, s.empty)
					}
				}
			}
			if where != "memory" && w.store.Count(tierfake.ReadAt) == 0 {
				t.Fatal("the story did not touch the store")
			}
		})
	}
}

func TestListOffsetsRefuses(t *testing.T) {
	w := newWorld(t, 2)
	topic := w.create("t", 2)
	leader := w.leader(topic, 0)
	other := w.nodes[0]
	if other == leader {
		other = w.nodes[1]
	}
	index, err := leader.router.Index()
	w.must(err)
	led, _ := ingest.LeaderNow(index, topic, 0)
	with := func(q *kmsg.ListOffsetsRequest, epoch, replica int32) *kmsg.ListOffsetsRequest {
		q.ReplicaID, q.Topics[0].Partitions[0].CurrentLeaderEpoch = replica, epoch
		return q
	}
	for _, s := range []struct {
		what string
		at   *worldNode
		q    *kmsg.ListOffsetsRequest
		want string
	}{
		{"the leader", leader, with(listing(topic, 0, -1), led.Epoch, -1), "0@-1"},
		{"not the leader", other, listing(topic, 0, -1), "NOT_LEADER_FOR_PARTITION"},
		{"not the leader, by time", other, listing(topic, 0, 5), "NOT_LEADER_FOR_PARTITION"},
		{"a newer epoch", leader, with(listing(topic, 0, -1), led.Epoch+1, -1), "UNKNOWN_LEADER_EPOCH"},
		{"a follower", leader, with(listing(topic, 0, -1), -1, 3), "INVALID_REQUEST"},
		{"no such partition", leader, listing(topic, 2, -1), "UNKNOWN_TOPIC_OR_PARTITION"},
		{"no such topic", leader, listing(meta.Topic{Name: "nobody"}, 0, -1), "UNKNOWN_TOPIC_OR_PARTITION"},
	} {
		if said := offsetInWords(askWire[*kmsg.ListOffsetsResponse](w.dial(s.at), 7, s.q)); said != s.want {
			t.Errorf("%s: %s, want %s", s.what, said, s.want)
		}
	}
	many := listing(topic, 0, -1)
	for range maxOffsetParts {
		many.Topics[0].Partitions = append(many.Topics[0].Partitions, many.Topics[0].Partitions[0])
	}
	c := w.dial(leader)
	c.send(7, many)
	if !c.hungUp() {
		t.Error("more partitions than anybody needs were answered for")
	}
}

// A consumer that asks where an epoch ends learns that nothing it has read was taken back, whoever leads now.
func TestOffsetForLeaderEpoch(t *testing.T) {
	w := newWorld(t, 2)
	topic := w.create("t", 1)
	w.put(topic, 0, "a", "b")
	ask := func(current, epoch int32) string {
		q := kmsg.NewPtrOffsetForLeaderEpochRequest()
		q.ReplicaID = -1
		tq := kmsg.NewOffsetForLeaderEpochRequestTopic()
		tq.Topic = topic.Name
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = current, epoch
		tq.Partitions = append(tq.Partitions, p)
		q.Topics = append(q.Topics, tq)
		said := ""
		for version := int16(2); version <= 4; version++ {
			a := askWire[*kmsg.OffsetForLeaderEpochResponse](w.dial(w.leader(topic, 0)), version, q)
			got := a.Topics[0].Partitions[0]
			now := fmt.Sprintf("%d ends at %d", got.LeaderEpoch, got.EndOffset)
			if got.ErrorCode != 0 {
				now = codeInWords(got.ErrorCode)
			}
			if said != "" && said != now {
				t.Fatalf("version %d: %s, and before %s", version, now, said)
			}
			said = now
		}
		return said
	}
	expect := func(current, epoch int32, want string) {
		t.Helper()
		if said := ask(current, epoch); said != want {
			t.Errorf("epoch %d, at %d: %s, want %s", epoch, current, said, want)
		}
	}
	expect(-1, 1, "1 ends at 2")
	expect(1, 1, "1 ends at 2")
	expect(-1, 2, "UNKNOWN_LEADER_EPOCH")
	before := w.leader(topic, 0)
	w.must(before.Close(w.ctx)) // it lets go, and the other leads at the next epoch
	for _, n := range w.nodes {
		if n != before {
			w.until(n, func(index ingest.ClusterIndex) bool {
				l, ok := ingest.LeaderNow(index, topic, 0)
				return ok && l.Node == n.id
			})
			w.nodes = []*worldNode{n}
			break
		}
	}
	expect(-1, 1, "1 ends at 2") // nothing was written since
	expect(-1, 2, "2 ends at 2")
	expect(1, 1, "FENCED_LEADER_EPOCH")
	expect(3, 1, "UNKNOWN_LEADER_EPOCH")
	w.put(topic, 0, "c")
	expect(2, 1, "1 ends at 2")
	expect(2, 2, "2 ends at 3")
	expect(-1, 0, "0 ends at 0") // before there was anything
}

// Nothing can be deleted yet, and what asks for nothing to be deleted is done.
func TestDeleteRecords(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 2)
	w.put(topic, 0, "a", "b")
	c := w.dial(w.nodes[0])
	for _, s := range []struct {
		partition int32
		offset    int64
		want      int16
		low       int64
	}{
		{0, 0, 0, 0},
		{0, 1, kerr.PolicyViolation.Code, -1},
		{0, -1, kerr.PolicyViolation.Code, -1},
		{0, 3, kerr.OffsetOutOfRange.Code, -1},
		{0, -2, kerr.OffsetOutOfRange.Code, -1},
		{1, -1, 0, 0},
		{2, 0, kerr.UnknownTopicOrPartition.Code, -1},
	} {
		for version := range int16(3) {
			q := kmsg.NewPtrDeleteRecordsRequest()
			tq := kmsg.NewDeleteRecordsRequestTopic()
			tq.Topic = topic.Name
			p := kmsg.NewDeleteRecordsRequestTopicPartition()
			p.Partition, p.Offset = s.partition, s.offset
			tq.Partitions = append(tq.Partitions, p)
			q.Topics = append(q.Topics, tq)
			got := askWire[*kmsg.DeleteRecordsResponse](c, version, q).Topics[0].Partitions[0]
			if got.ErrorCode != s.want || got.LowWatermark != s.low {
				t.Errorf("%+v: %+v", s, got)
			}
		}
	}
}

// busyLog notes how many lookups are under way.
type busyLog struct {
	Log

	mu        sync.Mutex
	now, most int
	looked    int
}

func (l *busyLog) PartStates(_ context.Context, ids []meta.Partition) ([]ingest.PartState, error) {
	return make([]ingest.PartState, len(ids)), nil
}

func (l *busyLog) FirstSince(ctx context.Context, _ meta.Partition, _ int64) (ingest.RecordTime, bool, error) {
	if _, limited := ctx.Deadline(); !limited {
		return ingest.RecordTime{}, false, ingest.Errorf(ingest.ReasonInternal, "for ever")
	}
	l.mu.Lock()
	l.now++
	l.looked++
	l.most = max(l.most, l.now)
	l.mu.Unlock()
	<-clock.System().NewTimer(time.Millisecond).C()
	l.mu.Lock()
	l.now--
	l.mu.Unlock()
	return ingest.RecordTime{Offset: 7}, true, nil
}

// seeking looks for records of one time in so many partitions.
func seeking(topic meta.Topic, partitions int32) *kmsg.ListOffsetsRequest {
	q := listing(topic, 0, 1000)
	for n := int32(1); n < partitions; n++ {
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, listing(topic, n, 1000).Topics[0].Partitions...)
	}
	return q
}

// A client that seeks in more partitions than can be looked into while it waits is told of those that were, and asks again for the others.
func TestListOffsetsTellsWhatIsFoundInTime(t *testing.T) {
	const partitions = 3000
	cluster, log := &fakeCluster{}, &busyLog{}
	topic := cluster.add("t", partitions)
	s, dial := fakeServer(t, "n1", cluster, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	s.change(func() { s.lookup = 200 * time.Millisecond })
	began := clock.System().Now()
	found, later := 0, 0
	for _, p := range askWire[*kmsg.ListOffsetsResponse](dial(), 5, seeking(topic, partitions)).Topics[0].Partitions {
		switch {
		case p.ErrorCode == 0 && p.Offset == 7:
			found++
		case p.ErrorCode == kerr.LeaderNotAvailable.Code:
			later++
		default:
			t.Fatalf("%+v", p)
		}
	}
	if took := clock.System().Now().Sub(began); took > 2*time.Second || found == 0 || later == 0 {
		t.Errorf("after %s %d were found and %d are to be asked for again", took, found, later)
	}
}

// A client has all places for lookups while nobody else wants one, and then leaves some.
func TestListOffsetsLeavesPlacesForOthers(t *testing.T) {
	const partitions = 3000
	cluster, log := &fakeCluster{}, &busyLog{}
	topic := cluster.add("t", partitions)
	_, dial := fakeServer(t, "n1", cluster, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	greedy := dial()
	q := seeking(topic, partitions)
	greedy.send(5, q)
	until(t, "lookup", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.most == offsetLookups
	})
	askWire[*kmsg.ListOffsetsResponse](dial(), 5, seeking(topic, 2))
	log.mu.Lock()
	looked := log.looked
	log.mu.Unlock()
	if looked >= partitions {
		t.Errorf("a second client waited for all of the first one's lookups")
	}
	receive[*kmsg.ListOffsetsResponse](greedy, q)
}

// A partition is looked at once for a request.
func TestListOffsetsLooksAtEachPartitionOnce(t *testing.T) {
	cluster, log := &fakeCluster{}, &busyLog{}
	topic := cluster.add("t", 50)
	c := serveFake(t, "n1", cluster, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	q := listing(topic, 0, 1000)
	for range 2 {
		for n := range int32(50) {
			q.Topics = append(q.Topics, listing(topic, n, 1000).Topics...)
		}
	}
	for n, a := range askWire[*kmsg.ListOffsetsResponse](c, 7, q).Topics {
		want := kerr.InvalidRequest
		if n == 0 || n > 1 && n <= 50 {
			want = nil
		}
		wantKafka(t, fmt.Sprint(n), a.Partitions[0].ErrorCode, want)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.looked != 50 || log.most > offsetLookups {
		t.Errorf("%d lookups, %d at once", log.looked, log.most)
	}
}
