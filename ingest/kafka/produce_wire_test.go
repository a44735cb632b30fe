package kafka

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// batchOf is one batch of a producer (-1 for none), with a record for each value.
func batchOf(tb testing.TB, codec record.Codec, producer int64, sequence int32, values ...string) record.Batch {
	tb.Helper()
	b := record.NewBuilder(codec)
	for i, v := range values {
		if err := b.Append(record.Record{Timestamp: 1_700_000_000_000 + int64(i), Key: []byte("k"), Value: []byte(v)}); err != nil {
			tb.Fatal(err)
		}
	}
	epoch := int16(0)
	if producer < 0 {
		epoch, sequence = -1, -1
	}
	out, err := b.Build(producer, epoch, sequence)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Clone(out)
}

func plain(tb testing.TB, values ...string) record.Batch {
	tb.Helper()
	return batchOf(tb, record.None, -1, -1, values...)
}

// topicOf is a topic that nothing but its name is known of.
func topicOf(name string) meta.Topic { return meta.Topic{Name: name} }

// produceOf is a request that sends each of the batches to a partition, from 0 on.
func produceOf(topic meta.Topic, acks int16, batches ...record.Batch) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Acks = acks
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic.Name, topic.ID
	for n, b := range batches {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(n), b
		t.Partitions = append(t.Partitions, p)
	}
	q.Topics = append(q.Topics, t)
	return q
}

// sendProduce sends a request and gives its answer, partition by partition.
func sendProduce(c *wire, version int16, q *kmsg.ProduceRequest) []kmsg.ProduceResponseTopicPartition {
	c.w.t.Helper()
	var out []kmsg.ProduceResponseTopicPartition
	for _, t := range askWire[*kmsg.ProduceResponse](c, version, q).Topics {
		out = append(out, t.Partitions...)
	}
	return out
}

func wantKafka(tb testing.TB, what string, got int16, want *kerr.Error) {
	tb.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		tb.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

func TestEveryVersionOfProduce(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	c := w.dial(w.nodes[0])
	for version := int16(3); version <= 13; version++ {
		for n, p := range sendProduce(c, version, produceOf(topic, -1, plain(t, "a", "b"), plain(t, "c"))) {
			want := int64(version-3) * int64(2-n)
			if p.ErrorCode != 0 || p.Partition != int32(n) || p.BaseOffset != want || p.LogAppendTime != -1 {
				t.Errorf("version %d: %+v, want offset %d", version, p, want)
			}
			if version >= 5 && p.LogStartOffset != 0 {
				t.Errorf("version %d: the log starts at %d", version, p.LogStartOffset)
			}
		}
	}
	for version := range int16(3) {
		old := w.dial(w.nodes[0])
		old.send(version, produceOf(topic, -1, plain(t, "a")))
		if !old.hungUp() {
			t.Errorf("a produce of version %d was answered", version)
		}
	}
}

// What a client does about a refusal depends on its code.
func TestRefusedProduces(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1, "max.message.bytes", "2000")
	change := func(at int, b record.Batch, to ...byte) record.Batch {
		copy(b[at:], to)
		return b
	}
	// resealed puts the checksum right again after a change.
	resealed := func(b record.Batch) record.Batch {
		b.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
		return b
	}
	good, long := plain(t, "x"), strings.Repeat("x", 500)
	absent := topic
	absent.Name, absent.ID = "absent", meta.TopicID{1}
	c := w.dial(w.nodes[0])
	transactional, transacted := produceOf(topic, -1, plain(t, "x")), "t1"
	transactional.TransactionID = &transacted
	elsewhere := produceOf(topic, -1, plain(t, "x"))
	elsewhere.Topics[0].Partitions[0].Partition = 7
	negative := produceOf(topic, -1, plain(t, "x"))
	negative.Topics[0].Partitions[0].Partition = -1
	twice := produceOf(topic, -1, plain(t, "x"), plain(t, "y"))
	twice.Topics[0].Partitions[1].Partition = 0
	acrossTopics := produceOf(topic, -1, plain(t, "x"))
	acrossTopics.Topics = append(acrossTopics.Topics, produceOf(topic, -1, plain(t, "y")).Topics...)
	for _, s := range []struct {
		what    string
		version int16
		q       *kmsg.ProduceRequest
		want    *kerr.Error
	}{
		{"no topic", 12, produceOf(absent, -1, plain(t, "x")), kerr.UnknownTopicOrPartition},
		{"no topic of the id", 13, produceOf(absent, -1, plain(t, "x")), kerr.UnknownTopicID},
		{"no such partition", 12, elsewhere, kerr.UnknownTopicOrPartition},
		{"no such partition, by id", 13, elsewhere, kerr.UnknownTopicOrPartition},
		{"a negative partition", 12, negative, kerr.UnknownTopicOrPartition},
		{"acks of 2", 12, produceOf(topic, 2, plain(t, "x")), kerr.InvalidRequiredAcks},
		{"acks of -2", 3, produceOf(topic, -2, plain(t, "x")), kerr.InvalidRequiredAcks},
		{"a transactional id", 12, transactional, kerr.TransactionalIDAuthorizationFailed},
		{"a partition twice", 12, twice, kerr.InvalidRequest},
		{"a partition twice in two topics", 12, acrossTopics, kerr.InvalidRequest},
		{"null", 12, produceOf(topic, -1, nil), kerr.InvalidRecord},
		{"nothing", 12, produceOf(topic, -1, record.Batch{}), kerr.InvalidRecord},
		{"two batches", 12, produceOf(topic, -1, append(plain(t, "x"), plain(t, "y")...)), kerr.InvalidRecord},
		{"a byte more", 12, produceOf(topic, -1, append(plain(t, "x"), 0)), kerr.InvalidRecord},
		{"a byte less", 12, produceOf(topic, -1, plain(t, "x")[:len(good)-1]), kerr.CorruptMessage},
		{"half a header", 12, produceOf(topic, -1, plain(t, "x")[:30]), kerr.CorruptMessage},
		{"magic 1", 12, produceOf(topic, -1, change(16, plain(t, "x"), 1)), kerr.InvalidRecord},
		{"a changed byte", 12, produceOf(topic, -1, change(len(good)-1, plain(t, "x"), 0xff)), kerr.CorruptMessage},
		{"a lying count", 12, produceOf(topic, -1, resealed(change(57, plain(t, "x"), 0, 0, 0, 9))), kerr.InvalidRecord},
		{"a lying count, compressed", 12, produceOf(topic, -1, resealed(change(57, batchOf(t, record.Zstd, -1, -1, long), 0, 0, 0, 9))), kerr.InvalidRecord},
		{"an unknown codec", 12, produceOf(topic, -1, resealed(change(22, plain(t, "x"), 6))), kerr.UnsupportedCompressionType},
		{"a transaction", 12, produceOf(topic, -1, resealed(change(22, plain(t, "x"), 0x10))), kerr.TransactionalIDAuthorizationFailed},
		{"a control batch", 12, produceOf(topic, -1, resealed(change(22, plain(t, "x"), 0x20))), kerr.InvalidRecord},
		{"zstd for old consumers", 6, produceOf(topic, -1, batchOf(t, record.Zstd, -1, -1, long)), kerr.UnsupportedCompressionType},
		{"too large", 12, produceOf(topic, -1, plain(t, string(make([]byte, 3000)))), kerr.MessageTooLarge},
		{"a producer without all acks", 12, produceOf(topic, 1, batchOf(t, record.None, 5, 0, "x")), kerr.InvalidRequest},
		{"a producer that begins in the middle", 12, produceOf(topic, -1, batchOf(t, record.None, 5, 7, "x")), kerr.UnknownProducerID},
	} {
		for _, p := range sendProduce(c, s.version, s.q) {
			wantKafka(t, s.what, p.ErrorCode, s.want)
			if p.BaseOffset != -1 || s.version >= 8 && p.ErrorMessage == nil {
				t.Errorf("%s: %+v", s.what, p)
			}
		}
	}
	if got := w.values(topic, 0); len(got) != 0 {
		t.Errorf("the log has %q", got)
	}
	if p := sendProduce(c, 12, produceOf(topic, -1, good)); p[0].ErrorCode != 0 {
		t.Errorf("the connection is of no use any more: %+v", p)
	}
}

// One partition's batch that is refused says nothing of the others'.
func TestOnePartitionOfManyFails(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 5)
	bad := plain(t, "bad")
	bad[len(bad)-1]++
	got := sendProduce(w.dial(w.nodes[0]), 11, produceOf(topic, -1, plain(t, "a"), plain(t, "b"), bad, plain(t, "d"), plain(t, "e")))
	for n, p := range got {
		want := []string{"a", "b", "", "d", "e"}[n]
		values := w.values(topic, int32(n))
		if want == "" {
			wantKafka(t, "the bad batch", p.ErrorCode, kerr.CorruptMessage)
			if len(values) != 0 {
				t.Errorf("the log has %q of it", values)
			}
			continue
		}
		if p.ErrorCode != 0 || p.BaseOffset != 0 || len(values) != 1 || values[0] != want {
			t.Errorf("partition %d: %+v, log %q", n, p, values)
		}
	}
}

// Batches of each codec are in the log bit for bit, but for base offset and leader epoch, which no checksum covers.
func TestBatchesPassThroughAsTheyAre(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	c := w.dial(w.nodes[0])
	var sent []record.Batch
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		b := batchOf(t, codec, -1, -1, "one", "two", string(bytes.Repeat([]byte("three "), 1000)))
		sent = append(sent, bytes.Clone(b))
		if p := sendProduce(c, 9, produceOf(topic, -1, b)); p[0].ErrorCode != 0 {
			t.Fatalf("%s: %+v", codec, p[0])
		}
	}
	for n, b := range w.read(topic, 0) {
		want := sent[n]
		want.Stamp(b.BaseOffset(), b.LeaderEpoch())
		if !bytes.Equal(b, want) {
			t.Errorf("batch %d has changed", n)
		}
	}
}

// acks=0 is not answered: the next answer is that to the next request. What went wrong ends the connection, so that the client looks for leaders.
func TestNoAcks(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	c := w.dial(w.nodes[0])
	c.send(9, produceOf(topic, 0, plain(t, "a")))
	c.send(9, produceOf(topic, 0, plain(t, "b")))
	if p := sendProduce(c, 9, produceOf(topic, -1, plain(t, "c"))); p[0].BaseOffset != 2 {
		t.Errorf("%+v", p)
	}
	topic.Name = "absent"
	c.send(9, produceOf(topic, 0, plain(t, "lost")))
	if !c.hungUp() {
		t.Error("a produce that failed unheard left the connection as it was")
	}
}

// acks=1 is answered before the batch is in the object store.
func TestLeaderAcksDoNotWaitForTheObject(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	release := w.store.Hang(tierfake.Put)
	defer release()
	if p := sendProduce(w.dial(w.nodes[0]), 9, produceOf(topic, 1, plain(t, "a"))); p[0].ErrorCode != 0 || p[0].BaseOffset != 0 {
		t.Errorf("%+v", p)
	}
}

// A request's timeout bounds the wait for its answer, and nothing else: the batch goes on, and a retry has the offset of the first attempt.
func TestProduceTimesOutAndGoesOn(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	release := w.store.Hang(tierfake.Put)
	defer release()
	id, _, err := w.nodes[0].InitProducer(w.ctx)
	w.must(err)
	c := w.dial(w.nodes[0])
	q := produceOf(topic, -1, batchOf(t, record.None, id, 0, "a", "b"))
	q.TimeoutMillis = 50
	began := clock.System().Now()
	p := sendProduce(c, 9, q)
	wantKafka(t, "the first attempt", p[0].ErrorCode, kerr.RequestTimedOut)
	if took := clock.System().Now().Sub(began); took < 50*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	release()
	q = produceOf(topic, -1, batchOf(t, record.None, id, 0, "a", "b"))
	if p := sendProduce(c, 9, q); p[0].ErrorCode != 0 || p[0].BaseOffset != 0 {
		t.Errorf("the retry: %+v", p)
	}
	if got := w.values(topic, 0); len(got) != 2 {
		t.Errorf("the log has %q", got)
	}
}

// A produce does not hold up those behind it, and each is answered as soon as it and those before it are through.
func TestProducesArePipelined(t *testing.T) {
	w := newWorld(t, 1)
	slow := w.create("slow", 1)
	fast := w.create("fast", 1, "durability", "disk")
	release := w.store.Hang(tierfake.Put)
	defer release()
	c := w.dial(w.nodes[0])
	c.send(9, produceOf(fast, -1, plain(t, "a")))
	c.send(9, produceOf(slow, -1, plain(t, "b")))
	c.send(9, produceOf(fast, -1, plain(t, "c")))
	c.send(9, produceOf(slow, -1, plain(t, "d")))
	next := func(offset int64) {
		t.Helper()
		q := kmsg.NewPtrProduceRequest()
		q.Version = 9
		answer, correlation := receive[*kmsg.ProduceResponse](c, q)
		if p := answer.Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != offset {
			t.Errorf("request %d: %+v", correlation, p)
		}
	}
	next(0) // while the next one waits for the object store
	_, err := w.nodes[0].Fetch(w.ctx, ingest.FetchRequest{Topic: "fast", Partitions: []ingest.FetchPartition{{Offset: 1}}, MaxWait: storyPatience})
	w.must(err) // the third is in the log while the second waits
	if got := w.values(fast, 0); len(got) != 2 {
		t.Errorf("the log has %q", got)
	}
	release()
	next(0)
	next(1)
	next(1)
}

// A node that does not lead says who does, and where.
func TestNotTheLeader(t *testing.T) {
	w := newWorld(t, 3)
	topic := w.create("orders", 3)
	leads := w.leader(topic, 0)
	for _, n := range w.nodes {
		if n == leads {
			continue
		}
		c := w.dial(n)
		for version := int16(3); version <= 13; version++ {
			answer := askWire[*kmsg.ProduceResponse](c, version, produceOf(topic, -1, plain(t, "x")))
			p := answer.Topics[0].Partitions[0]
			wantKafka(t, "a node that does not lead", p.ErrorCode, kerr.NotLeaderForPartition)
			if version < produceLeader {
				continue
			}
			if p.CurrentLeader.LeaderID != BrokerID(leads.id) || p.CurrentLeader.LeaderEpoch < 0 {
				t.Errorf("version %d names the leader %+v", version, p.CurrentLeader)
			}
			if len(answer.Brokers) != 1 || answer.Brokers[0].NodeID != BrokerID(leads.id) || brokerAddress(answer.Brokers[0]) != leads.address {
				t.Errorf("version %d tells the brokers %+v", version, answer.Brokers)
			}
		}
	}
	if got := w.values(topic, 0); len(got) != 0 {
		t.Errorf("the log has %q", got)
	}
}

// A client that goes in the middle of a request leaves nothing behind, and one that goes before its answer leaves its records, once.
func TestClientsThatVanish(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	q := produceOf(topic, -1, plain(t, "never"))
	q.Version = 9
	half := frameOf(q, 1)
	for n := range half {
		c := w.dial(w.nodes[0])
		_, err := c.Write(half[:n])
		w.must(err)
		w.must(c.Close())
	}
	id, _, err := w.nodes[0].InitProducer(w.ctx)
	w.must(err)
	release := w.store.Hang(tierfake.Put)
	defer release()
	c := w.dial(w.nodes[0])
	c.send(9, produceOf(topic, -1, batchOf(t, record.None, id, 0, "once")))
	for {
		states, err := w.nodes[0].Producers(w.ctx, "orders", 0)
		w.must(err)
		if len(states) > 0 {
			break // it has its offset
		}
	}
	w.must(c.Close())
	release()
	for range 3 {
		p := sendProduce(w.dial(w.nodes[0]), 9, produceOf(topic, -1, batchOf(t, record.None, id, 0, "once")))
		if p[0].ErrorCode != 0 || p[0].BaseOffset != 0 {
			t.Errorf("a retry: %+v", p)
		}
	}
	if got := w.values(topic, 0); len(got) != 1 || got[0] != "once" {
		t.Errorf("the log has %q", got)
	}
}

// A node that is not there yet refuses in a way that clients repeat.
func TestProduceToANodeThatIsNotReady(t *testing.T) {
	w := newWorld(t, 1, func(_ *ingest.Config, served *Config) {
		served.Log = func() (Log, error) {
			return nil, ingest.Errorf(ingest.ReasonUnavailable, "the node is starting")
		}
	})
	topic := w.create("orders", 1)
	c := w.dial(w.nodes[0])
	p := sendProduce(c, 13, produceOf(topic, -1, plain(t, "x")))
	if e := kerr.TypedErrorForCode(p[0].ErrorCode); e == nil || !e.Retriable {
		t.Errorf("%+v", p)
	}
	if e := kerr.TypedErrorForCode(askWire[*kmsg.InitProducerIDResponse](c, 5, kmsg.NewPtrInitProducerIDRequest()).ErrorCode); e == nil || !e.Retriable {
		t.Errorf("no producer id: %v", e)
	}
}

func brokerAddress(b kmsg.ProduceResponseBroker) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
