package kafka

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// coldTail has nodes give what they can from the object store.
func coldTail(c *ingest.Config, _ *Config) { c.TailBytes = 1 }

// put appends a batch at the leader, without Kafka.
func (w *world) put(topic meta.Topic, partition int32, values ...string) {
	w.t.Helper()
	b := record.NewBuilder(record.None)
	for i, v := range values {
		w.must(b.Append(record.Record{Timestamp: int64(1000 + i), Value: []byte(v)}))
	}
	batch, err := b.Build(-1, -1, -1)
	w.must(err)
	_, err = w.leader(topic, partition).Produce(w.ctx, ingest.ProduceRequest{Topic: topic.Name, Partition: partition, Batch: batch})
	w.must(err)
}

// asking is a fetch of partitions from offsets: of 0, 1 and so on.
func asking(topic meta.Topic, offsets ...int64) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.MinBytes, q.MaxBytes = 1, 1<<20
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic.Name, topic.ID
	for p, offset := range offsets {
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes = int32(p), offset, 1<<20
		t.Partitions = append(t.Partitions, part)
	}
	q.Topics = append(q.Topics, t)
	return q
}

// inWords puts an answer into words: of each partition its number, and its values or its error.
func inWords(tb testing.TB, a *kmsg.FetchResponse) string {
	tb.Helper()
	var out []string
	if a.ErrorCode != 0 {
		out = append(out, codeInWords(a.ErrorCode))
	}
	for _, topic := range a.Topics {
		slices.SortFunc(topic.Partitions, func(a, b kmsg.FetchResponseTopicPartition) int { return int(a.Partition - b.Partition) })
		for _, p := range topic.Partitions {
			said := fmt.Sprintf("%d:", p.Partition)
			if p.ErrorCode != 0 {
				said += codeInWords(p.ErrorCode)
			}
			var values []string
			for rest := p.RecordBatches; len(rest) > 0; {
				b, after, err := record.Next(rest)
				if err != nil {
					tb.Fatal(err)
				}
				for r, err := range b.Records(record.Limits{}) {
					if err != nil {
						tb.Fatal(err)
					}
					values = append(values, string(r.Value[:min(len(r.Value), 3)]))
				}
				rest = after
			}
			out = append(out, said+strings.Join(values, ","))
		}
	}
	return strings.Join(out, " ")
}

// codeInWords is the name of a code.
func codeInWords(code int16) string { return kerr.TypedErrorForCode(code).Message }

// Everything that a producer sent comes back as it was sent, whatever its codec, from memory and from the object store.
func TestConsumersGetWhatProducersSent(t *testing.T) {
	for where, change := range map[string]func(*ingest.Config, *Config){"memory": func(*ingest.Config, *Config) {}, "object store": coldTail} {
		t.Run(where, func(t *testing.T) {
			w := newWorld(t, 1, change)
			w.create("t", 3)
			sent := make(map[string]*kgo.Record)
			for n, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
				producer := w.newClient(kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
				for i := range 60 {
					r := &kgo.Record{
						Topic: "t", Partition: int32(i % 3), Timestamp: time.UnixMilli(int64(1_700_000_000_000 + 1000*n + 7*i - i*i)),
						Value: bytes.Repeat(fmt.Appendf(nil, "%d/%d ", n, i), 1+i%5),
					}
					switch i % 4 {
					case 0:
						r.Key = fmt.Appendf(nil, "key %d", i)
						r.Headers = []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte{}}, {Key: "", Value: nil}}
					case 1:
						r.Value, r.Key = nil, fmt.Appendf(nil, "gone %d/%d", n, i) // a tombstone
					case 2:
						r.Key = []byte{}
					}
					sent[identity(r)] = r
					producer.Produce(w.ctx, r, func(_ *kgo.Record, err error) {
						if err != nil {
							t.Error(err)
						}
					})
				}
				w.must(producer.Flush(w.ctx))
			}
			if len(sent) != 300 {
				t.Fatalf("the story has only %d records", len(sent))
			}
			consumer := w.newClient(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
			next := make([]int64, 3)
			for got := 0; got < len(sent); {
				fetches := consumer.PollFetches(w.ctx)
				w.must(fetches.Err())
				fetches.EachRecord(func(r *kgo.Record) {
					got++
					if r.Offset != next[r.Partition] {
						t.Fatalf("partition %d gives %d where %d is due", r.Partition, r.Offset, next[r.Partition])
					}
					next[r.Partition]++
					was := sent[identity(r)]
					if was == nil || was.Partition != r.Partition || was.Offset != r.Offset {
						t.Fatalf("nobody sent %+v", r)
					}
				})
			}
			if where != "memory" && w.store.Count(tierfake.ReadAt) == 0 {
				t.Fatal("the story did not touch the store")
			}
		})
	}
}

// identity is everything of a record that its producer gave it.
func identity(r *kgo.Record) string {
	said := fmt.Sprintf("%d %q %t %q %t", r.Timestamp.UnixMilli(), r.Key, r.Key == nil, r.Value, r.Value == nil)
	for _, h := range r.Headers {
		said += fmt.Sprintf(" %q=%q %t", h.Key, h.Value, h.Value == nil)
	}
	return said
}

// A fetch waits for records: until they come, and no longer than it says; in every version that there is.
func TestFetchWaits(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 2, "durability", "disk")
	c := w.dial(w.nodes[0])
	for version := int16(4); version <= 18; version++ {
		q := asking(topic, int64(version)-4, 0)
		q.MaxWaitMillis = 20
		began := clock.System().Now()
		a := askWire[*kmsg.FetchResponse](c, version, q)
		if said := inWords(t, a); said != "0: 1:" || clock.System().Now().Sub(began) < 20*time.Millisecond {
			t.Fatalf("version %d: %s after %v", version, said, clock.System().Now().Sub(began))
		}
		q.MaxWaitMillis = int32(storyPatience.Milliseconds())
		began = clock.System().Now()
		c.send(version, q)
		w.put(topic, 0, fmt.Sprint("v", version))
		if a, _ = receive[*kmsg.FetchResponse](c, q); inWords(t, a) != fmt.Sprintf("0:v%d 1:", version) {
			t.Fatalf("version %d: %s", version, inWords(t, a))
		}
		p := a.Topics[0].Partitions[0]
		if clock.System().Now().Sub(began) > storyPatience/2 || p.HighWatermark != int64(version)-3 || p.LastStableOffset != p.HighWatermark || a.Topics[0].Partitions[1].RecordBatches == nil {
			t.Fatalf("version %d, after %v: %+v", version, clock.System().Now().Sub(began), a)
		}
		if version >= 11 && p.PreferredReadReplica != -1 {
			t.Fatalf("%+v", p)
		}
	}
	// Nobody waits for what is told already, or who says that he does not.
	q := asking(topic, 99, 0)
	q.MaxWaitMillis = int32(storyPatience.Milliseconds())
	if said := inWords(t, askWire[*kmsg.FetchResponse](c, 16, q)); said != "0:OFFSET_OUT_OF_RANGE 1:" {
		t.Fatal(said)
	}
	q = asking(topic, 15, 0)
	q.MaxWaitMillis, q.MinBytes = int32(storyPatience.Milliseconds()), 0
	if said := inWords(t, askWire[*kmsg.FetchResponse](c, 16, q)); said != "0: 1:" {
		t.Fatal(said)
	}
}

// A node that drains answers who waits.
func TestFetchIsAnsweredWhenTheNodeDrains(t *testing.T) {
	w := newWorld(t, 1)
	const partitions = fewFetchParts + 1 // so that it can be seen from outside that it is under way
	topic := w.create("t", partitions, "durability", "disk")
	w.put(topic, 3, "x")
	c, s := w.dial(w.nodes[0]), w.nodes[0].server
	offsets := make([]int64, partitions)
	offsets[3] = 1
	q := asking(topic, offsets...)
	q.MaxWaitMillis = int32(storyPatience.Milliseconds())
	c.send(12, q)
	w.untilTaken(s.namedParts, namedFetchParts)
	s.Drain(w.ctx)
	a, _ := receive[*kmsg.FetchResponse](c, q)
	if len(a.Topics) != 1 || len(a.Topics[0].Partitions) != partitions {
		t.Fatal(inWords(t, a))
	}
	for _, p := range a.Topics[0].Partitions {
		if p.ErrorCode != 0 || len(p.RecordBatches) > 0 || p.HighWatermark != offsets[p.Partition] {
			t.Fatalf("%+v", p)
		}
	}
	if !c.hungUp() {
		t.Fatal("the connection goes on")
	}
}

func TestFetchObeysLimits(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 2, "durability", "disk")
	for _, v := range []string{"A", "B", "C"} {
		w.put(topic, 0, strings.Repeat("a"+v, 2000)) // batches of 4 KiB and a little
		w.put(topic, 1, strings.Repeat("b"+v, 2000))
	}
	c := w.dial(w.nodes[0])
	for _, s := range []struct {
		maxBytes, ofFirst, ofSecond int32
		want                        string
	}{
		{1, 1 << 20, 1 << 20, "0:aAa 1:"}, // the first batch of the first is given all the same
		{0, 0, 0, "0:aAa 1:"},
		{1 << 20, 1, 1, "0:aAa 1:"},
		{1 << 20, 9000, 5000, "0:aAa,aBa 1:bAb"},
		{14_000, 9000, 1 << 20, "0:aAa,aBa 1:bAb"},
		{1 << 20, 1 << 20, 1 << 20, "0:aAa,aBa,aCa 1:bAb,bBb,bCb"},
	} {
		q := asking(topic, 0, 0)
		q.MaxBytes, q.Topics[0].Partitions[0].PartitionMaxBytes, q.Topics[0].Partitions[1].PartitionMaxBytes = s.maxBytes, s.ofFirst, s.ofSecond
		q.SessionEpoch = 0 // sessions begin with the first partition
		if said := inWords(t, askWire[*kmsg.FetchResponse](c, 12, q)); said != s.want {
			t.Errorf("%+v: %s", s, said)
		}
	}
	// Without a session either comes first in its turn, so that a small answer does not always have the same partition.
	given := make(map[string]int)
	for range 4 {
		q := asking(topic, 0, 0)
		q.MaxBytes = 1
		given[inWords(t, askWire[*kmsg.FetchResponse](c, 12, q))]++
	}
	if given["0:aAa 1:"] != 2 || given["0: 1:bAb"] != 2 {
		t.Fatal(given)
	}
}

// untilTaken waits until there is less than so much left of a room.
func (w *world) untilTaken(r *room.Room, size int64) {
	w.t.Helper()
	for share := r.Try(size, nil); share != nil; share = r.Try(size, nil) {
		share.Give()
		w.must(w.ctx.Err())
		<-clock.System().NewTimer(time.Millisecond).C()
	}
}

// The first read of many partitions takes as many requests to the store as there are objects.
func TestFetchReadsColdPartitionsTogether(t *testing.T) {
	const partitions = 200
	w := newWorld(t, 1, coldTail, func(c *ingest.Config, _ *Config) { c.FlushInterval = 200 * time.Millisecond })
	topic := w.create("t", partitions)
	producer := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for p := range int32(partitions) {
		producer.Produce(w.ctx, &kgo.Record{Topic: "t", Partition: p, Value: fmt.Append(nil, p)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	w.must(producer.Flush(w.ctx))
	objects, before := len(w.store.Names()), w.store.Count(tierfake.ReadAt)
	c := w.dial(w.nodes[0])
	a := askWire[*kmsg.FetchResponse](c, 12, asking(topic, make([]int64, partitions)...))
	for _, p := range a.Topics[0].Partitions {
		if p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			t.Fatalf("partition %d: %d, %d bytes", p.Partition, p.ErrorCode, len(p.RecordBatches))
		}
	}
	reads := w.store.Count(tierfake.ReadAt) - before
	t.Logf("%d partitions of %d objects were read by %d requests", partitions, objects, reads)
	if reads > objects {
		t.Fatal("too many")
	}
}

// Clients that do not read what they asked for hold up to the room for answers, and no more; and not for long while others wait.
func TestSlowReadersHarmNobody(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 2, "durability", "disk")
	for range 24 {
		w.put(topic, 0, strings.Repeat("x", 900_000))
	}
	w.put(topic, 1, "small")
	s := w.nodes[0].server
	w.replaceRoom(&s.send, 24<<20)
	ask := func(c *wire) {
		q := asking(topic, 0)
		q.MaxBytes, q.Topics[0].Partitions[0].PartitionMaxBytes = 22<<20, 22<<20
		c.send(12, q)
	}
	slow := w.dial(w.nodes[0])
	ask(slow)
	w.untilTaken(s.send, 20<<20) // the kernel takes some of it
	quick := w.dial(w.nodes[0])
	ask(quick)
	a, _ := receive[*kmsg.FetchResponse](quick, func() *kmsg.FetchRequest { q := asking(topic); q.SetVersion(12); return q }())
	if n := len(a.Topics[0].Partitions[0].RecordBatches); n < 20<<20 {
		t.Fatalf("the quick one got %d bytes", n)
	}
	if n, err := io.Copy(io.Discard, slow.in); n > 20<<20 {
		t.Fatal(n, err, "the slow one is served though it keeps others waiting")
	}
}

// Who believes in another leader is told whom to believe in.
func TestFetchTellsTheLeader(t *testing.T) {
	w := newWorld(t, 3)
	topic := w.create("t", 6)
	w.put(topic, 0, "x")
	leader := w.leader(topic, 0)
	var other *worldNode
	for _, n := range w.nodes {
		if n != leader {
			other = n
		}
	}
	index, err := leader.router.Index()
	w.must(err)
	l, _ := ingest.LeaderNow(index, topic, 0)
	for _, s := range []struct {
		what     string
		at       *worldNode
		epoch    int32
		want     string
		told, to bool
	}{
		{"the right one", leader, l.Epoch, "0:x", false, false},
		{"any", leader, -1, "0:x", false, false},
		{"a newer one", leader, l.Epoch + 1, "0:UNKNOWN_LEADER_EPOCH", false, false},
		{"not here", other, l.Epoch, "0:NOT_LEADER_FOR_PARTITION", true, true},
	} {
		for _, version := range []int16{9, 11, 12, 15, 16, 18} {
			q := asking(topic, 0)
			q.Topics[0].Partitions[0].CurrentLeaderEpoch = s.epoch
			a := askWire[*kmsg.FetchResponse](w.dial(s.at), version, q)
			if said := inWords(t, a); said != s.want {
				t.Fatalf("%s, version %d: %s", s.what, version, said)
			}
			p := a.Topics[0].Partitions[0].CurrentLeader
			if told := p.LeaderID == BrokerID(leader.id) && p.LeaderEpoch == l.Epoch; told != (s.told && version >= 12) {
				t.Errorf("%s, version %d: it leads %+v", s.what, version, p)
			}
			where := len(a.Brokers) == 1 && a.Brokers[0].NodeID == BrokerID(leader.id) && fmt.Sprintf("%s:%d", a.Brokers[0].Host, a.Brokers[0].Port) == leader.address
			if where != (s.to && version >= 16) {
				t.Errorf("%s, version %d: it is at %+v", s.what, version, a.Brokers)
			}
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 1, "durability", "disk")
	zstd := w.newClient(kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	w.must(zstd.ProduceSync(w.ctx, &kgo.Record{Topic: "t", Value: bytes.Repeat([]byte("z"), 1000)}).FirstErr())
	c := w.dial(w.nodes[0])
	nobody := meta.Topic{Name: "nobody", ID: meta.TopicID{1, 2, 3}}
	for _, s := range []struct {
		what    string
		version int16
		q       *kmsg.FetchRequest
		want    string
	}{
		{"an unknown name", 12, asking(nobody, 0), "0:UNKNOWN_TOPIC_OR_PARTITION"},
		{"an unknown id", 13, asking(nobody, 0), "0:UNKNOWN_TOPIC_ID"},
		{"an unknown partition", 12, asking(topic, 0, 0), "0:zzz 1:UNKNOWN_TOPIC_OR_PARTITION"},
		{"an offset below 0", 12, asking(topic, -1), "0:OFFSET_OUT_OF_RANGE"},
		{"zstd is too new", 9, asking(topic, 0), "0:UNSUPPORTED_COMPRESSION_TYPE"},
		{"zstd is not", 10, asking(topic, 0), "0:zzz"},
		{"a follower", 12, func() *kmsg.FetchRequest { q := asking(topic, 0); q.ReplicaID = 3; return q }(), "0:INVALID_REQUEST"},
		{"a follower of today", 17, func() *kmsg.FetchRequest { q := asking(topic, 0); q.ReplicaState.ID = 3; return q }(), "0:INVALID_REQUEST"},
	} {
		s.q.SessionEpoch = 0
		if said := inWords(t, askWire[*kmsg.FetchResponse](c, s.version, s.q)); said != s.want {
			t.Errorf("%s: %s, want %s", s.what, said, s.want)
		}
	}
}

// A consumer goes on with the next leader, and gets every record once and in order.
func TestConsumersFollowTheLeader(t *testing.T) {
	const partitions, each = 4, 40
	w := newWorld(t, 2)
	topic := w.create("t", partitions)
	consumer := w.newClient(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	producer := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	next := make([]int64, partitions)
	consume := func(upTo int64) {
		for slices.Min(next) < upTo {
			fetches := consumer.PollFetches(w.ctx)
			w.must(fetches.Err())
			fetches.EachRecord(func(r *kgo.Record) {
				if want := fmt.Sprint(next[r.Partition]); r.Offset != next[r.Partition] || string(r.Value) != want {
					t.Fatalf("partition %d gives %q at %d where %s is due", r.Partition, r.Value, r.Offset, want)
				}
				next[r.Partition]++
			})
		}
	}
	produce := func(from int64) {
		for n := from; n < from+each; n++ {
			for p := range int32(partitions) {
				producer.Produce(w.ctx, &kgo.Record{Topic: "t", Partition: p, Value: fmt.Append(nil, n)}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
	produce(0)
	consume(each)
	leader := w.leader(topic, 0)
	produce(each) // while the leader goes
	w.must(leader.Close(w.ctx))
	w.must(producer.Flush(w.ctx))
	produce(2 * each)
	consume(3 * each)
}
