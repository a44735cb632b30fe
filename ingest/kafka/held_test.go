package kafka

import (
	"context"
	"encoding/binary"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/meta"
)

// Whoever waits, for records, for a lookup or for a turn, holds nothing meanwhile that others need.

// stuckLog is a log in which all that may wait does, until it is freed or its caller gives up. A produce is on disk at once, and is never answered.
type stuckLog struct {
	Log

	free  chan struct{}
	waits atomic.Int64 // calls that do
	given atomic.Int64 // batches
}

func (l *stuckLog) wait(ctx context.Context) error {
	l.waits.Add(1)
	defer l.waits.Add(-1)
	select {
	case <-l.free:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *stuckLog) FetchParts(ctx context.Context, r ingest.FetchPartsRequest) ([]ingest.PartFetched, error) {
	return make([]ingest.PartFetched, len(r.Parts)), l.wait(ctx)
}

func (l *stuckLog) PartStates(_ context.Context, ids []meta.Partition) ([]ingest.PartState, error) {
	return make([]ingest.PartState, len(ids)), nil
}

func (l *stuckLog) FirstSince(ctx context.Context, _ meta.Partition, _ int64) (ingest.RecordTime, bool, error) {
	return ingest.RecordTime{}, false, l.wait(ctx)
}

func (l *stuckLog) ProduceAsync(_ context.Context, r ingest.ProduceRequest, _ func(ingest.ProduceResult, error)) {
	l.given.Add(1)
	r.Logged()
}

// untilWaiting waits until so many calls wait.
func (l *stuckLog) untilWaiting(t *testing.T, calls int64) {
	t.Helper()
	until(t, "call that waits", func() bool { return l.waits.Load() == calls })
}

// stuckServer serves a stuck log with one topic.
func stuckServer(t *testing.T, partitions int32) (*Server, *stuckLog, func() *wire) {
	t.Helper()
	cluster, log := &fakeCluster{leader: "n1"}, &stuckLog{free: make(chan struct{})}
	cluster.add("orders", partitions)
	s, dial := fakeServer(t, "n1", cluster, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	return s, log, dial
}

// isFree fails unless so much of a room is, at once.
func isFree(t *testing.T, what string, r *room.Room, size int64) {
	t.Helper()
	share := r.Try(size, nil)
	if share == nil {
		t.Errorf("%s holds more of a room than it may: %d bytes are not free", what, size)
		return
	}
	share.Give()
}

// untilFree waits until so much of a room is.
func untilFree(t *testing.T, r *room.Room, size int64) {
	t.Helper()
	until(t, "room", func() bool {
		share := r.Try(size, nil)
		if share != nil {
			share.Give()
		}
		return share != nil
	})
}

// poll is a fetch without a session that waits for records.
func poll(partitions int32) *kmsg.FetchRequest {
	q := asking(topicOf("orders"), make([]int64, partitions)...)
	q.MaxWaitMillis, q.SessionEpoch = 60_000, -1
	return q
}

// nineKiB is a request that needs room for its frame and to be decoded.
func nineKiB() *kmsg.MetadataRequest {
	q := kmsg.NewPtrMetadataRequest()
	q.AllowAutoTopicCreation = false
	name := strings.Repeat("n", 60)
	for range 150 {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &name
		q.Topics = append(q.Topics, topic)
	}
	return q
}

// asksSoon fails unless a request of nine kilobytes is answered soon.
func asksSoon(c *wire) {
	c.w.t.Helper()
	c.w.must(c.SetReadDeadline(clock.System().Now().Add(3 * time.Second)))
	askWire[*kmsg.MetadataResponse](c, 9, nineKiB())
}

// beginning is a frame of which the last byte is missing.
func beginning(key kmsg.Key, version int16, size int) []byte {
	b := make([]byte, sizeBytes+size-1)
	binary.BigEndian.PutUint32(b, uint32(size))
	binary.BigEndian.PutUint16(b[4:], uint16(key))
	binary.BigEndian.PutUint16(b[6:], uint16(version))
	return b
}

func TestAFrameBehindALongPollHoldsNoRoom(t *testing.T) {
	s, log, dial := stuckServer(t, 1)
	const most = 1 << 20
	s.change(func() {
		s.asked, s.receive = room.New(most, receivePatience, clock.System()), room.New(most, receivePatience, clock.System())
	})
	patient, records, behind := dial(), poll(1), nineKiB()
	patient.send(11, records)
	patient.send(9, behind)
	var greedy []*wire
	for _, large := range [][]byte{beginning(kmsg.OffsetCommit, 8, most), beginning(kmsg.Produce, 9, most)} {
		c := dial()
		c.send(11, poll(1))
		if _, err := c.Write(large); err != nil {
			t.Fatal(err)
		}
		greedy = append(greedy, c)
	}
	log.untilWaiting(t, 3)
	other := dial()
	for began := clock.System().Now(); clock.System().Now().Sub(began) < 200*time.Millisecond; {
		asksSoon(other)
	}
	isFree(t, "a produce behind a long poll", s.receive, most)
	for _, c := range greedy {
		_ = c.Close()
	}
	// When the poll is over what is behind it is read, and the connection goes on.
	close(log.free)
	receive[*kmsg.FetchResponse](patient, records)
	receive[*kmsg.MetadataResponse](patient, behind)
	asksSoon(patient)
}

// A client that ends with a large request half sent is not waited for.
func TestAClientThatIsGoneEndsItsLongPoll(t *testing.T) {
	s, log, dial := stuckServer(t, 1)
	c := dial()
	c.send(11, poll(1))
	log.untilWaiting(t, 1)
	if _, err := c.Write(beginning(kmsg.OffsetCommit, 8, groupFrame)[:headBytes+firstBytes+100]); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	log.untilWaiting(t, 0)
	until(t, "end of the connection", func() bool { return s.open.Load() == 0 })
}

// slowLog takes as long for each batch as the test does.
type slowLog struct {
	Log

	taken chan struct{}
}

func (l *slowLog) ProduceAsync(_ context.Context, _ ingest.ProduceRequest, done func(ingest.ProduceResult, error)) {
	<-l.taken
	done(ingest.ProduceResult{}, nil)
}

// What is behind a produce is read while the produce is handed to the log: a connection that brings much is kept busy.
func TestProducesAreReadAhead(t *testing.T) {
	log := &slowLog{taken: make(chan struct{})}
	s, dial := fakeServer(t, "n1", &fakeCluster{leader: "n1"}, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	c := dial()
	const size = 1 << 20
	q := produceOf(topicOf("orders"), -1, plain(t, strings.Repeat("x", size)))
	for range 2 {
		c.send(9, q)
	}
	c.w.untilTaken(s.receive, receiveBytes-3*size/2)
	close(log.taken)
	for range 2 {
		a, _ := receive[*kmsg.ProduceResponse](c, q)
		wantKafka(t, "a produce", a.Topics[0].Partitions[0].ErrorCode, nil)
	}
	untilFree(t, s.receive, receiveBytes)
}

// Requests of a megabyte that look for records keep what they take in memory, and not what they might have taken.
func TestLookupsHoldLittle(t *testing.T) {
	s, log, dial := stuckServer(t, 1)
	for range 2 {
		q := listing(topicOf("orders"), 0, 1)
		for range 31 {
			q.Topics = append(q.Topics, kmsg.ListOffsetsRequestTopic{Topic: strings.Repeat("f", 32_735)})
		}
		dial().send(5, q)
	}
	log.untilWaiting(t, 2)
	asksSoon(dial())
	isFree(t, "what is decoded", s.decode, decodeBytes-8<<20)
	isFree(t, "the frame of a lookup", s.asked, askedBytes)
}

// A request that is made to take as much memory as can be is refused.
func TestARequestThatTakesMuchMemory(t *testing.T) {
	s, _, dial := stuckServer(t, 1)
	c := dial()
	c.send(7, &kmsg.ListOffsetsRequest{ReplicaID: -1, Topics: make([]kmsg.ListOffsetsRequestTopic, 340_000)})
	if !c.hungUp() {
		t.Error("it is answered")
	}
	untilFree(t, s.decode, decodeBytes)
	untilFree(t, s.asked, askedBytes)
}

func TestWeighing(t *testing.T) {
	q := nineKiB()
	q.UnknownTags.Set(7, make([]byte, 1000))
	const least = 150*(16+60) + 1000
	if n := memoryOf(reflect.ValueOf(q)); n < least || n > 3*least {
		t.Errorf("a request with %d bytes of names and tags takes %d", least, n)
	}
}

// Fetches that wait for their turn among all fetches have nothing decoded, and there are not too many of them.
func TestFetchesThatWaitForTheirTurn(t *testing.T) {
	s, log, dial := stuckServer(t, 1000)
	const each = 1000
	s.change(func() {
		s.namedParts, s.queuedParts = room.New(each, stallPatience, clock.System()), room.New(each, stallPatience, clock.System())
	})
	dial().send(11, poll(each))
	log.untilWaiting(t, 1)
	second, q := dial(), poll(each)
	second.send(11, q)
	second.w.untilTaken(s.queuedParts, each)
	untilFree(t, s.decode, decodeBytes)
	untilFree(t, s.asked, askedBytes)
	third := dial()
	third.send(11, poll(each))
	if !third.hungUp() {
		t.Error("any number of fetches may wait for their turn")
	}
	close(log.free)
	receive[*kmsg.FetchResponse](second, q)
	untilFree(t, s.queuedParts, each)
}
