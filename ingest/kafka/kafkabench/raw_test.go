package kafkabench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/record"
)

// rawLoad is producing with batches that are encoded once.
type rawLoad struct {
	topic       string
	partitions  int32
	valueBytes  int
	batchBytes  int // about, before compression
	codec       record.Codec
	connections int
	inFlight    int
	// perSecond, unless 0, is the pace of batches: latency is counted from when each was due.
	perSecond float64
	lasts     time.Duration
}

// rawResult is what came of it.
type rawResult struct {
	records, bytes int64 // bytes of values
	took           time.Duration
	latency        *hdrhistogram.Histogram // microseconds
}

const produceVersion = 9

// encodeBatch makes a batch of incompressible values for random data's sake; with a codec they are text that compresses as logs do.
func encodeBatch(t *testing.T, l rawLoad) (batch record.Batch, records int) {
	t.Helper()
	builder := record.NewBuilder(l.codec)
	state := uint64(88172645463325252)
	for size := 0; size < l.batchBytes || records == 0; records++ {
		value := make([]byte, l.valueBytes)
		for i := range value {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			if value[i] = byte(state); l.codec != record.None {
				value[i] = "GET /index.html 200 "[state%20]
			}
		}
		if err := builder.Append(record.Record{Timestamp: now().UnixMilli(), Value: value}); err != nil {
			t.Fatal(err)
		}
		size += l.valueBytes
	}
	batch, err := builder.Build(-1, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	return batch, records
}

// produceFrame is a whole request for one partition.
func produceFrame(topic string, partition int32, batch []byte) []byte {
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	m := kmsg.NewProduceRequestTopic()
	m.Topic, m.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	q := kmsg.NewPtrProduceRequest()
	q.Acks, q.TimeoutMillis, q.Topics = -1, 30_000, []kmsg.ProduceRequestTopic{m}
	q.SetVersion(produceVersion)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, q, 0)
}

// run produces for as long as the load says.
func (l rawLoad) run(t *testing.T, address string) rawResult {
	t.Helper()
	batch, records := encodeBatch(t, l)
	frames := make([][]byte, l.partitions)
	for n := range frames {
		frames[n] = produceFrame(l.topic, int32(n), batch)
	}
	began := now()
	ends := began.Add(l.lasts)
	var acked atomic.Int64
	var mu sync.Mutex
	latency := hdrhistogram.New(1, 60_000_000, 3)
	errs := make(chan error, l.connections)
	for n := range l.connections {
		go func() {
			errs <- func() error {
				mine := hdrhistogram.New(1, 60_000_000, 3)
				defer func() {
					mu.Lock()
					latency.Merge(mine)
					mu.Unlock()
				}()
				return l.connection(address, frames, n, began, ends, &acked, mine)
			}()
		}()
	}
	var failed error
	for range l.connections {
		failed = errors.Join(failed, <-errs)
	}
	if failed != nil {
		t.Fatal(failed)
	}
	took := now().Sub(began)
	return rawResult{records: acked.Load() * int64(records), bytes: acked.Load() * int64(records) * int64(l.valueBytes), took: took, latency: latency}
}

// runRead is run while franz-go reads the same topic as it comes. took is until everything was read.
func (l rawLoad) runRead(t *testing.T, s *server) (produced rawResult, read int64, took time.Duration) {
	t.Helper()
	began := now()
	done := make(chan rawResult, 1)
	go func() { done <- l.run(t, s.address) }()
	client := reader(t, s, l.topic)
	defer client.Close()
	for produced.took == 0 || read < produced.records {
		if now().Sub(began) > l.lasts+time.Minute {
			t.Fatalf("%d of %d records were read", read, produced.records)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // the load may end at any time
		got := client.PollFetches(ctx)
		cancel()
		if err := got.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		read += int64(got.NumRecords())
		select {
		case produced = <-done:
		default:
		}
	}
	return produced, read, now().Sub(began)
}

// connection sends on one connection, so many requests in flight, until ends.
func (l rawLoad) connection(address string, frames [][]byte, number int, began, ends time.Time, acked *atomic.Int64, latency *hdrhistogram.Histogram) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make(chan time.Time, l.inFlight) // when each was due
	room := make(chan struct{}, l.inFlight)
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		failed <- func() error {
			defer cancel()
			in := bufio.NewReader(c)
			for due := range sent {
				if err := readAnswer(in); err != nil {
					return err
				}
				if err := latency.RecordValue(max(now().Sub(due).Microseconds(), 1)); err != nil {
					return err
				}
				acked.Add(1)
				<-room
			}
			return nil
		}()
	}()
	step := time.Duration(0)
	if l.perSecond > 0 {
		step = time.Duration(float64(time.Second) * float64(l.connections) / l.perSecond)
	}
	due := began.Add(step * time.Duration(number) / time.Duration(l.connections))
	for n := number; ; n++ {
		if step > 0 {
			due = due.Add(step)
			sleep(due.Sub(now()))
		} else {
			due = now()
		}
		if !due.Before(ends) {
			break
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return <-failed
		}
		if step == 0 {
			due = now()
		}
		if _, err := c.Write(frames[n%len(frames)]); err != nil {
			return err
		}
		sent <- due
	}
	close(sent)
	return <-failed
}

// readAnswer reads one answer and fails with its code.
func readAnswer(in *bufio.Reader) error {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	var answer kmsg.ProduceResponse
	answer.SetVersion(produceVersion)
	if err := answer.ReadFrom(b[5:]); err != nil { // correlation id and no tags
		return err
	}
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("partition %d: %w", p.Partition, err)
			}
		}
	}
	return nil
}
