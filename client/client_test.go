package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func producer(tb testing.TB, c *client.Client, cfg client.ProducerConfig) *client.Producer {
	tb.Helper()
	p, err := c.NewProducer(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 20*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			tb.Error("close:", err)
		}
	})
	return p
}

// consumeAll reads a topic to its end: the values of each partition, in order.
func consumeAll(tb testing.TB, c *client.Client, topic string, cfg client.ConsumerConfig) map[int32][]string {
	tb.Helper()
	cfg.UntilEnd = true
	cons, err := c.NewConsumer(topic, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	defer cons.Close()
	out := map[int32][]string{}
	for {
		b, err := cons.Poll(tb.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		for r, err := range b.Records() {
			if err != nil {
				tb.Fatal(err)
			}
			out[b.Partition] = append(out[b.Partition], string(r.Value))
		}
	}
}

// Whatever breaks, every record is in the log exactly once, in order, at the offset that its callback was told.
func TestExactlyOnceInOrder(t *testing.T) {
	for name, fault := range map[string]func(*server){
		"none":               func(*server) {},
		"cut before append":  func(s *server) { s.cut = 7 },
		"cut after append":   func(s *server) { s.lose = 7 },
		"back-pressure":      func(s *server) { s.refuse = 4 },
		"everything":         func(s *server) { s.cut, s.lose, s.refuse = 15, 15, 6 },
		"forgotten producer": func(s *server) { s.forget = 9 },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := startServer(t)
			s.create("t", 3, nil)
			s.mu.Lock()
			fault(s)
			s.mu.Unlock()
			p := producer(t, c, client.ProducerConfig{BatchBytes: 600, Linger: time.Millisecond})
			const records = 3000
			var mu sync.Mutex
			got := map[string]client.Result{}
			var last [3]int64
			for i := range records {
				value := fmt.Sprintf("%05d", i)
				err := p.ProduceTo(t.Context(), "t", int32(i%3), record.Record{Value: []byte(value)}, func(r client.Result) {
					mu.Lock()
					defer mu.Unlock()
					if _, twice := got[value]; twice {
						t.Error("two answers for", value)
					}
					got[value] = r
					if r.Err != nil {
						t.Error(value, r.Err)
					} else if r.Offset < last[r.Partition] {
						t.Error("callbacks out of order at", value)
					}
					last[r.Partition] = r.Offset
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(got) != records {
				t.Fatalf("%d answers", len(got))
			}
			total := 0
			for n, values := range consumeAll(t, c, "t", client.ConsumerConfig{}) {
				for offset, v := range values {
					if want := fmt.Sprintf("%05d", offset*3+int(n)); v != want {
						t.Fatalf("partition %d offset %d has %s, want %s", n, offset, v, want)
					}
					if got[v].Offset != int64(offset) {
						t.Fatalf("callback of %s said offset %d, it is at %d", v, got[v].Offset, offset)
					}
				}
				total += len(values)
				if p.Position("t")[n] != int64(len(values)) {
					t.Fatal("position", p.Position("t"))
				}
			}
			if total != records {
				t.Fatalf("%d records in the log", total)
			}
		})
	}
}

// A batch that is refused for good fails by name; those behind it go on under another id.
func TestRefusedInTheMiddle(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, nil)
	s.mu.Lock()
	s.reject = func(b record.Batch) *tidemarkv1.ProduceError {
		for r := range b.Records(record.Limits{}) {
			if bytes.HasPrefix(r.Value, []byte("bad")) {
				return &tidemarkv1.ProduceError{Code: "invalid_argument", Reason: "INVALID_RECORD", Message: "bad"}
			}
		}
		return nil
	}
	s.mu.Unlock()
	p := producer(t, c, client.ProducerConfig{Linger: -1})
	var want []string
	var wrong atomic.Int32
	for i := range 200 {
		v := fmt.Sprintf("good%d", i)
		if i%17 == 5 {
			v = fmt.Sprintf("bad%d", i)
		} else {
			want = append(want, v)
		}
		bad := v[0] == 'b'
		if err := p.Produce(t.Context(), "t", record.Record{Value: []byte(v)}, func(r client.Result) {
			if bad != errors.Is(r.Err, client.ErrRefused) || errors.Is(r.Err, client.ErrOutcomeUnknown) || !bad && r.Err != nil {
				wrong.Add(1)
				t.Error(v, r.Err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := consumeAll(t, c, "t", client.ConsumerConfig{})[0]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v", got)
	}
}

// Without idempotence a batch whose answer was lost fails as unknown and is not sent again.
func TestNotIdempotentIsNotRepeated(t *testing.T) {
	for _, cfg := range []client.ProducerConfig{{Acks: client.AcksLeader}, {DisableIdempotence: true}} {
		s, c := startServer(t)
		s.create("t", 1, nil)
		s.lose, s.refuse = 5, 5
		cfg.Linger = -1
		p := producer(t, c, cfg)
		var mu sync.Mutex
		outcome := map[string]error{}
		for i := range 60 {
			v := fmt.Sprint(i)
			if err := p.Produce(t.Context(), "t", record.Record{Value: []byte(v)}, func(r client.Result) {
				mu.Lock()
				outcome[v] = r.Err
				mu.Unlock()
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.lose = 0
		s.mu.Unlock()
		seen := map[string]int{}
		for _, v := range consumeAll(t, c, "t", client.ConsumerConfig{})[0] {
			seen[v]++
		}
		unknown := 0
		for v, err := range outcome {
			switch {
			case err == nil && seen[v] != 1, seen[v] > 1, errors.Is(err, client.ErrRefused) && seen[v] > 0:
				t.Errorf("%s is %d times in the log, the producer said %v", v, seen[v], err)
			case errors.Is(err, client.ErrOutcomeUnknown):
				unknown++
			}
		}
		if unknown == 0 || len(outcome) != 60 {
			t.Error("nothing was lost:", unknown, len(outcome))
		}
	}
}

func TestDeliveryTimeoutInFlightIsUnknown(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, nil)
	s.hold = make(chan struct{})
	p := producer(t, c, client.ProducerConfig{Linger: -1, DeliveryTimeout: 50 * time.Millisecond})
	_, err := p.ProduceSync(t.Context(), "t", record.Record{Value: []byte("v")})
	var e *client.Error
	if !errors.Is(err, client.ErrOutcomeUnknown) || !errors.As(err, &e) || e.Reason != client.ReasonDeliveryTimeout {
		t.Fatal(err)
	}
	close(s.hold)
	s.mu.Lock()
	s.hold = nil
	s.mu.Unlock()
	if r, err := p.ProduceSync(t.Context(), "t", record.Record{Value: []byte("w")}); err != nil || r.Offset != 1 {
		t.Fatal(r, err)
	}
}

// Produce waits when the buffer is full, and Close gives up what cannot be delivered without calling it a failure.
func TestBackPressureAndClose(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, nil)
	s.hold = make(chan struct{})
	p, err := c.NewProducer(client.ProducerConfig{BufferBytes: 10_000, BatchBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var taken, unknown, refused atomic.Int64
	for {
		err := p.Produce(ctx, "t", record.Record{Value: make([]byte, 100)}, func(r client.Result) {
			switch {
			case errors.Is(r.Err, client.ErrOutcomeUnknown):
				unknown.Add(1)
			case errors.Is(r.Err, client.ErrRefused):
				refused.Add(1)
			default:
				t.Error(r)
			}
		})
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		taken.Add(1)
	}
	if n := taken.Load(); n < 30 || n > 100 {
		t.Fatalf("%d records in 10,000 bytes", n)
	}
	done, stop := context.WithCancel(t.Context())
	stop()
	if err := p.Close(done); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if unknown.Load() == 0 || refused.Load() == 0 || unknown.Load()+refused.Load() != taken.Load() {
		t.Fatal(taken.Load(), unknown.Load(), refused.Load())
	}
	if err := p.Produce(t.Context(), "t", record.Record{}, nil); !errors.Is(err, client.ErrClosed) {
		t.Fatal(err)
	}
}

func TestErrorsOfProduce(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, map[string]string{"max.message.bytes": "1024"})
	p := producer(t, c, client.ProducerConfig{})
	var e *client.Error
	if err := p.Produce(t.Context(), "nothing", record.Record{}, nil); !client.IsNotFound(err) || !errors.As(err, &e) || e.Reason != client.ReasonUnknownTopic {
		t.Error(err)
	}
	if err := p.ProduceTo(t.Context(), "t", 1, record.Record{}, nil); !client.IsNotFound(err) || !errors.As(err, &e) || e.Reason != client.ReasonUnknownPartition {
		t.Error(err)
	}
	if err := p.Produce(t.Context(), "t", record.Record{Value: make([]byte, 2000)}, nil); !errors.Is(err, client.ErrRefused) || !errors.As(err, &e) || e.Reason != client.ReasonTooLarge {
		t.Error(err)
	}
	if err := p.Produce(t.Context(), "t", record.Record{Headers: []record.Header{{Key: "\xff"}}}, nil); !errors.Is(err, client.ErrRefused) {
		t.Error(err)
	}
	away, err := client.New(client.Config{Server: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	if _, _, err := away.GetTopic(t.Context(), "t"); !client.IsUnreachable(err) {
		t.Error(err)
	}
	cons, err := away.NewConsumer("t", client.ConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer cons.Close()
	if _, err := cons.Poll(t.Context()); !client.IsUnreachable(err) {
		t.Error(err)
	}
	all, err := c.ListTopics(t.Context())
	if err != nil || len(all) != 2 {
		t.Error(all, err)
	}
}

func fill(tb testing.TB, c *client.Client, topic string, n int) {
	tb.Helper()
	p := producer(tb, c, client.ProducerConfig{BatchBytes: 500})
	for i := range n {
		if err := p.Produce(tb.Context(), topic, record.Record{Key: []byte("k"), Value: fmt.Append(nil, i)}, nil); err != nil {
			tb.Fatal(err)
		}
	}
	if err := p.Flush(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

func TestConsumerGoesOn(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, nil)
	fill(t, c, "t", 500)
	s.mu.Lock()
	s.cut = 2
	s.mu.Unlock()
	got := consumeAll(t, c, "t", client.ConsumerConfig{From: client.Offset(7)})[0]
	for i, v := range got {
		if v != fmt.Sprint(i+7) {
			t.Fatalf("record %d is %s", i, v)
		}
	}
	if len(got) != 493 {
		t.Fatal(len(got))
	}
	_ = consumeAll(t, c, "t", client.ConsumerConfig{From: client.End()})
	if got := consumeAll(t, c, "t", client.ConsumerConfig{From: client.Offsets(map[int32]int64{0: 498})})[0]; len(got) != 2 {
		t.Fatal(got)
	}
}

func TestConsumerReports(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, nil)
	fill(t, c, "t", 100)
	poll := func(cfg client.ConsumerConfig) error {
		cons, err := c.NewConsumer("t", cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer cons.Close()
		for {
			if _, err := cons.Poll(t.Context()); err != nil {
				return err
			}
		}
	}
	var e *client.Error
	if err := poll(client.ConsumerConfig{From: client.Offset(1000)}); !errors.As(err, &e) || e.Reason != client.ReasonOffsetOutOfRange || e.Metadata["high_watermark"] != "3" {
		t.Error(err)
	}
	s.mu.Lock()
	part := s.topics["t"].parts[0]
	flipped := bytes.Clone(part.batches[1])
	flipped[70] ^= 1
	whole := part.batches
	part.batches = []record.Batch{whole[0], flipped, whole[2]}
	s.mu.Unlock()
	if err := poll(client.ConsumerConfig{}); !errors.As(err, &e) || e.Reason != client.ReasonCorruptData {
		t.Error("flipped bit:", err)
	}
	s.mu.Lock()
	part.batches = append([]record.Batch{whole[0]}, whole[2:]...)
	s.mu.Unlock()
	if err := poll(client.ConsumerConfig{}); !errors.As(err, &e) || e.Reason != client.ReasonCorruptData {
		t.Error("hole:", err)
	}
}

// A consumer that follows sees what is produced later, and Poll can be given up and taken up.
func TestConsumerFollows(t *testing.T) {
	s, c := startServer(t)
	s.create("t", 1, nil)
	cons, err := c.NewConsumer("t", client.ConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer cons.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := cons.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	fill(t, c, "t", 50)
	n := 0
	for n < 50 {
		b, err := cons.Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range b.Records() {
			if err != nil || string(r.Value) != fmt.Sprint(n) {
				t.Fatal(n, r, err)
			}
			n++
		}
	}
	if cons.Position()[0] != 50 {
		t.Fatal(cons.Position())
	}
}

func TestPartitionForKey(t *testing.T) {
	// The vectors of Kafka's own UtilsTest, by their partition among 2^31-1.
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107} {
		if got, want := client.PartitionForKey([]byte(key), 1<<31-1), (hash&0x7fffffff)%(1<<31-1); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	franz := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		n := rapid.IntRange(1, 1000).Draw(t, "partitions")
		if key == nil {
			key = []byte{}
		}
		if got, want := client.PartitionForKey(key, int32(n)), franz.Partition(&kgo.Record{Key: key}, n); int(got) != want {
			t.Fatalf("%x: %d, franz-go has %d", key, got, want)
		}
	})
}

func benchmarkProduce(b *testing.B, size int) {
	b.Helper()
	s, c := startServer(b)
	s.create("t", 4, nil)
	p := producer(b, c, client.ProducerConfig{})
	value := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		if err := p.ProduceTo(b.Context(), "t", int32(n%4), record.Record{Timestamp: 1, Value: value}, nil); err != nil {
			b.Fatal(err)
		}
		if n%100_000 == 99_999 { // the fake keeps everything: let it go
			s.mu.Lock()
			for _, part := range s.topics["t"].parts {
				part.batches = nil
			}
			s.mu.Unlock()
		}
	}
	if err := p.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkProduce100(b *testing.B)  { benchmarkProduce(b, 100) }
func BenchmarkProduce1024(b *testing.B) { benchmarkProduce(b, 1024) }
