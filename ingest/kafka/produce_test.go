package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// produceAll produces numbered records to the partitions of a topic in turn, as fast as the client can, and waits for all of them.
func produceAll(w *world, client *kgo.Client, topic string, partitions, records int) {
	w.t.Helper()
	var failed atomic.Pointer[error]
	for n := range records {
		r := &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: fmt.Appendf(nil, "%06d", n)}
		client.Produce(w.ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	w.must(client.Flush(w.ctx))
	if err := failed.Load(); err != nil {
		w.t.Fatal(*err)
	}
}

// An idempotent producer with many requests under way: everything is there once, in the order in which it was sent, on object and disk topics, also
// while the object store fails now and then.
func TestManyProducesInFlightKeepTheirOrder(t *testing.T) {
	const nodes, partitions, records = 3, 4, 2000
	w := newWorld(t, nodes)
	for _, durability := range []string{"object", "disk"} {
		topic := w.create("orders-"+durability, partitions, "durability", durability)
		for range 5 {
			w.store.FailNext(tierfake.Put, tier.ErrUnavailable, tierfake.After)
			w.store.FailNext(tierfake.Put, tier.ErrUnavailable, tierfake.Before)
		}
		client := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1024),
			kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
		produceAll(w, client, topic.Name, partitions, records)
		for p := range int32(partitions) {
			got := w.values(topic, p)
			if len(got) != records/partitions || !slices.IsSorted(got) || len(slices.Compact(got)) != records/partitions {
				t.Errorf("%s, partition %d: %d records, in order: %v", durability, p, len(got), slices.IsSorted(got))
			}
		}
	}
}

// Producers that are not idempotent, with each kind of acks.
func TestClientsWithEachKindOfAcks(t *testing.T) {
	w := newWorld(t, 1)
	for name, acks := range map[string]kgo.Acks{"all": kgo.AllISRAcks(), "leader": kgo.LeaderAck(), "none": kgo.NoAck()} {
		topic := w.create(name, 2)
		client := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks))
		produceAll(w, client, name, 2, 200)
		for p := range int32(2) {
			for len(w.values(topic, p)) < 100 {
				w.must(w.ctx.Err()) // without acks they may be on their way
			}
		}
	}
}

// A client whose connections break loses the answers of produces that are done, sends them again, and nothing is there twice.
func TestAnswersThatAreLost(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	var dials atomic.Int64
	client := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(512), kgo.RecordRetries(1000), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, host)
			if err != nil || dials.Add(1) > 40 {
				return c, err
			}
			return &forgetful{Conn: c, answers: 6}, nil
		}))
	produceAll(w, client, topic.Name, 1, 3000)
	got := w.values(topic, 0)
	if len(got) != 3000 || !slices.IsSorted(got) || len(slices.Compact(got)) != 3000 {
		t.Errorf("%d records, in order: %v", len(got), slices.IsSorted(got))
	}
	if dials.Load() < 10 {
		t.Errorf("only %d connections: no answer was lost", dials.Load())
	}
}

// forgetful is a connection that breaks instead of giving one more answer.
type forgetful struct {
	net.Conn

	answers int // reads, about
}

func (f *forgetful) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if f.answers--; f.answers < 0 && err == nil {
		return 0, errors.Join(net.ErrClosed, f.Close())
	}
	return n, err
}

// Every codec, from the client to the log.
func TestClientsCompress(t *testing.T) {
	w := newWorld(t, 1)
	for n, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		topic := w.create(fmt.Sprint("orders-", n), 1)
		client := w.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))
		produceAll(w, client, topic.Name, 1, 500)
		if got := w.values(topic, 0); len(got) != 500 || !slices.IsSorted(got) {
			t.Errorf("codec %d: %d records", n, len(got))
		}
		if got := w.read(topic, 0)[0].Codec(); int(got) != n {
			t.Errorf("the log has codec %s, the client sent %d", got, n)
		}
	}
}

// keeper is a log that keeps every batch that it is given, as a node does with what it has taken.
type keeper struct {
	Log

	mu      sync.Mutex
	batches []record.Batch
}

func (l *keeper) ProduceAsync(_ context.Context, r ingest.ProduceRequest, done func(ingest.ProduceResult, error)) {
	if _, err := record.Validate(r.Batch, record.DefaultLimits()); err != nil {
		done(ingest.ProduceResult{}, ingest.Errorf(ingest.ReasonCorruptBatch, "%w", err))
		return
	}
	l.mu.Lock()
	l.batches = append(l.batches, r.Batch)
	l.mu.Unlock()
	done(ingest.ProduceResult{}, nil)
}

// kept is what it keeps.
func (l *keeper) kept() []record.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batches
}

// A small batch that comes with much that is refused, or in a large frame of any other kind, keeps itself in memory and not its frame.
func TestASmallBatchKeepsNoLargeFrame(t *testing.T) {
	log := &keeper{}
	w := newWorld(t, 1, func(_ *ingest.Config, served *Config) { served.Log = func() (Log, error) { return log, nil } })
	c := w.dial(w.nodes[0])
	garbage := make([]byte, 4<<20)
	before := heap()
	const requests = 50
	for range requests {
		p := sendProduce(c, 9, produceOf(topicOf("orders"), -1, plain(t, "small"), garbage))
		if p[0].ErrorCode != 0 || p[1].ErrorCode == 0 {
			t.Fatalf("%+v", p)
		}
	}
	if grown := heap() - before; grown > 20<<20 {
		t.Errorf("%d small batches keep %d bytes", len(log.kept()), grown)
	}
	runtime.KeepAlive(log)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A batch that is most of its frame is the frame's memory: nothing is copied between the wire and the node.
func TestALargeBatchIsNotCopied(t *testing.T) {
	s, err := New(Config{Self: "n1", Log: func() (Log, error) { return nil, errors.New("none yet") }, Cluster: &quietIndex{}, Groups: struct{ Groups }{}, Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, share := range []struct {
		batches []record.Batch
		shared  int
	}{
		{[]record.Batch{plain(t, string(make([]byte, 1000)))}, 1},
		{[]record.Batch{plain(t, string(make([]byte, 1000))), plain(t, "small")}, 1},
		{[]record.Batch{plain(t, string(make([]byte, 1000))), plain(t, string(make([]byte, 900))), plain(t, string(make([]byte, 800)))}, 0},
	} {
		log := &keeper{}
		s.Log = func() (Log, error) { return log, nil }
		q := produceOf(topicOf("orders"), -1, share.batches...)
		rest := produceBody(9, q)
		k := &call{conn: newConn(s, &net.TCPConn{}), api: apis[0], done: make(chan struct{})}
		k.version, k.rest, k.request = 9, rest, q
		if err := q.ReadFrom(rest); err != nil {
			t.Fatal(err)
		}
		if err := serveProduce(t.Context(), k); err != nil || !k.isDone() || k.rest != nil || k.request != nil {
			t.Fatalf("%v, answered: %v", err, k.isDone())
		}
		shared := 0
		for _, b := range log.kept() {
			before := b.CRC()
			for n := range rest {
				rest[n]++
			}
			if b.CRC() != before {
				shared++
			}
		}
		if len(log.kept()) != len(share.batches) || shared != share.shared {
			t.Errorf("%d of %d batches share the frame, not %d", shared, len(log.kept()), share.shared)
		}
	}
}

// quietIndex is a cluster of which nothing is known.
type quietIndex struct{ Cluster }

func (*quietIndex) Index() (ingest.ClusterIndex, error) {
	return nil, ingest.Errorf(ingest.ReasonUnavailable, "nothing is known")
}

// Clients that send the batches of all their partitions in one request fill it up to what Kafka's brokers take.
func TestALargeRequestOfManyBatches(t *testing.T) {
	log := &keeper{}
	w := newWorld(t, 1, func(_ *ingest.Config, served *Config) { served.Log = func() (Log, error) { return log, nil } })
	batches := make([]record.Batch, 90)
	for n := range batches {
		batches[n] = plain(t, string(make([]byte, 1<<20)))
	}
	for n, p := range sendProduce(w.dial(w.nodes[0]), 9, produceOf(topicOf("orders"), -1, batches...)) {
		if p.ErrorCode != 0 {
			t.Errorf("partition %d: %+v", n, p)
		}
	}
	if n := len(log.kept()); n != len(batches) {
		t.Errorf("%d batches of %d", n, len(batches))
	}
}

// holder is a log that answers when the test says so.
type holder struct {
	Log

	held chan func(ingest.ProduceResult, error)
}

func (l *holder) ProduceAsync(_ context.Context, _ ingest.ProduceRequest, done func(ingest.ProduceResult, error)) {
	l.held <- done
}

func newHolder(t *testing.T) (*world, *holder, *wire) {
	t.Helper()
	held := &holder{held: make(chan func(ingest.ProduceResult, error), 10)}
	w := newWorld(t, 1, func(_ *ingest.Config, served *Config) { served.Log = func() (Log, error) { return held, nil } })
	return w, held, w.dial(w.nodes[0])
}

// Answers come in the order of the requests, whatever the order in which the log gives them, and none waits for one behind it.
func TestAnswersComeInOrderAndAtOnce(t *testing.T) {
	_, held, c := newHolder(t)
	q := produceOf(topicOf("orders"), -1, plain(t, "a"))
	var done []func(ingest.ProduceResult, error)
	for range 4 {
		c.send(9, q)
		done = append(done, <-held.held)
	}
	next := func(offset int64) {
		t.Helper()
		answer, correlation := receive[*kmsg.ProduceResponse](c, q)
		if p := answer.Topics[0].Partitions[0]; p.BaseOffset != offset || int64(correlation) != offset+1 {
			t.Errorf("answer to request %d: %+v", correlation, p)
		}
	}
	answer := func(n int) { done[n](ingest.ProduceResult{BaseOffset: int64(n)}, nil) }
	answer(0)
	next(0)
	answer(2)
	answer(1)
	next(1)
	next(2)
	answer(3)
	next(3)
}

// What a frame takes of the room for frames is given back when the log has answered for its batches, and no earlier: until then nobody else counts them.
func TestFramesCountUntilTheLogHasAnswered(t *testing.T) {
	w, held, c := newHolder(t)
	receiving := w.nodes[0].server.receive
	q := produceOf(topicOf("orders"), -1, plain(t, string(make([]byte, 100_000))), plain(t, string(make([]byte, 100_000))))
	q.TimeoutMillis = 20
	for _, p := range sendProduce(c, 9, q) {
		wantKafka(t, "a log that says nothing", p.ErrorCode, kerr.RequestTimedOut)
	}
	for range 2 {
		if all := receiving.Try(receiveBytes, nil); all != nil {
			t.Error("the frame counts no more")
			all.Give()
		}
		(<-held.held)(ingest.ProduceResult{}, nil)
	}
	all, err := receiving.Take(w.ctx, receiveBytes, nil)
	w.must(err)
	all.Give()
}

func TestInitProducerID(t *testing.T) {
	w := newWorld(t, 1)
	c := w.dial(w.nodes[0])
	given := make(map[int64]bool)
	for version := range int16(6) {
		answer := askWire[*kmsg.InitProducerIDResponse](c, version, kmsg.NewPtrInitProducerIDRequest())
		if answer.ErrorCode != 0 || answer.ProducerEpoch != 0 || answer.ProducerID < 0 || given[answer.ProducerID] {
			t.Errorf("version %d: %+v", version, answer)
		}
		given[answer.ProducerID] = true
	}
	for what, s := range map[string]struct {
		id       *string
		producer int64
		epoch    int16
		code     int16
	}{
		"one that has an id":      {nil, 0, 3, 0},
		"a transactional id":      {new("t"), -1, -1, 53},
		"an empty one":            {new(""), -1, -1, 42},
		"an id without an epoch":  {nil, 7, -1, 42},
		"an epoch without an id":  {nil, -1, 7, 42},
		"neither, and one of old": {nil, -1, -1, 0},
	} {
		q := kmsg.NewPtrInitProducerIDRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch = s.id, s.producer, s.epoch
		answer := askWire[*kmsg.InitProducerIDResponse](c, 5, q)
		if answer.ErrorCode != s.code || (s.code == 0) != (answer.ProducerID >= 0) || given[answer.ProducerID] {
			t.Errorf("%s: %+v", what, answer)
		}
		if s.code == 0 {
			given[answer.ProducerID] = true
		}
	}
}

func TestDescribeProducers(t *testing.T) {
	w := newWorld(t, 2)
	topic := w.create("orders", 2)
	leads := w.leader(topic, 0)
	ids := make([]int64, 3)
	c := w.dial(leads)
	for n := range ids {
		var err error
		ids[n], _, err = leads.InitProducer(w.ctx)
		w.must(err)
		for sequence := range int32(n + 1) {
			if p := sendProduce(c, 9, produceOf(topic, -1, batchOf(t, record.None, ids[n], 2*sequence, "a", "b"))); p[0].ErrorCode != 0 {
				t.Fatalf("%+v", p)
			}
		}
	}
	q := kmsg.NewPtrDescribeProducersRequest()
	for _, name := range []string{"orders", "absent"} {
		asked := kmsg.NewDescribeProducersRequestTopic()
		asked.Topic, asked.Partitions = name, []int32{0, 1, 2}
		q.Topics = append(q.Topics, asked)
	}
	answer := askWire[*kmsg.DescribeProducersResponse](c, 0, q)
	for n, a := range answer.Topics[0].Partitions[0].ActiveProducers {
		if a.ProducerID != ids[n] || a.ProducerEpoch != 0 || a.LastSequence != int32(2*n+1) || a.CurrentTxnStartOffset != -1 {
			t.Errorf("producer %d: %+v", n, a)
		}
	}
	var codes []int16
	for _, of := range answer.Topics {
		for _, p := range of.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	if !slices.Equal(codes, []int16{0, 6, 3, 3, 3, 3}) || len(answer.Topics[0].Partitions[0].ActiveProducers) != 3 {
		t.Errorf("codes %v of %+v", codes, answer)
	}
}
