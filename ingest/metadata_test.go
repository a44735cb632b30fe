package ingest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// A client that does not read while a hundred things change is sent one message with how it all ended.
func TestASlowWatchCostsOneState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		index, topic := newFakeIndex()
		watches := newMetadataWatches(clock.System())
		watches.publish(metadataSnapshotOf(index, nil))
		ctx, cancel := context.WithCancelCause(t.Context())
		service := &clusterService{watches: watches}
		var sent []*tidemarkv1.WatchMetadataResponse
		read := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- service.watch(ctx, &tidemarkv1.WatchMetadataRequest{Topics: []string{"a"}}, func(m *tidemarkv1.WatchMetadataResponse) error {
				sent = append(sent, m)
				<-read
				return nil
			})
		}()
		synctest.Wait()
		for n := range 100 {
			index.revision++
			index.leaders[meta.Partition{Topic: topic.ID}] = meta.Leadership{Node: "n2", Epoch: int32(n + 2), Disk: "disk-n2"}
			watches.publish(metadataSnapshotOf(index, watches.latest()))
		}
		close(read)
		synctest.Wait()
		if len(sent) != 2 || sent[1].GetNodesChanged() || sent[1].GetRevision() != index.revision || sent[1].GetTopics()[0].GetPartitions()[0].GetEpoch() != 101 {
			t.Errorf("%d messages, the last %v", len(sent), sent[len(sent)-1])
		}
		// What does not concern it is not sent.
		index.topics["b"] = meta.Topic{Name: "b", ID: meta.TopicID{2}, Partitions: 1}
		watches.publish(metadataSnapshotOf(index, watches.latest()))
		synctest.Wait()
		if len(sent) != 2 {
			t.Errorf("sent %v", sent[2:])
		}
		delete(index.nodes, "n2")
		watches.publish(metadataSnapshotOf(index, watches.latest()))
		synctest.Wait()
		if len(sent) != 3 || len(sent[2].GetNodes()) != 2 || sent[2].GetTopics()[0].GetPartitions()[0].GetNode() != "" {
			t.Errorf("sent %v", sent[2:])
		}
		if watches.open != 1 {
			t.Errorf("%d watches are open", watches.open)
		}
		cancel(errors.New("gone"))
		if err := <-ended; err == nil || watches.open != 0 {
			t.Errorf("%v, %d watches are open", err, watches.open)
		}
	})
}

// What a watch holds is counted by the names that it follows, and it holds no more whatever is told of them.
func TestNamesOfWatchesAreCapped(t *testing.T) {
	watches := newMetadataWatches(clock.System())
	closing := make(chan struct{})
	service := &clusterService{watches: watches, closing: closing}
	index, _ := newFakeIndex()
	watches.publish(metadataSnapshotOf(index, nil))
	names := make([]string, maxMetadataTopics)
	for n := range names {
		names[n] = fmt.Sprintf("%0200d", n)
	}
	each := watchedSize(names)
	most := maxWatchedBytes / each
	sent, ended := make(chan *tidemarkv1.WatchMetadataResponse), make(chan error)
	for range most {
		go func() {
			ended <- service.watch(t.Context(), &tidemarkv1.WatchMetadataRequest{Topics: names}, func(m *tidemarkv1.WatchMetadataResponse) error {
				sent <- m
				return nil
			})
		}()
		if m := <-sent; len(m.GetMissing()) != len(names) {
			t.Fatalf("%d of %d are missing", len(m.GetMissing()), len(names))
		}
	}
	err := service.watch(t.Context(), &tidemarkv1.WatchMetadataRequest{Topics: names}, nil)
	if ReasonOf(err) != ReasonBackPressure {
		t.Error("one more:", err)
	}
	if most < 20 || most*each > maxWatchedBytes {
		t.Errorf("%d watches of %d bytes", most, each)
	}
	close(closing)
	for range most {
		if err := <-ended; !errors.Is(err, errClosing) {
			t.Error(err)
		}
	}
	if watches.named != 0 || watches.open != 0 {
		t.Errorf("%d watches with %d bytes are left", watches.open, watches.named)
	}
}

// A topic that was never there is told of once, one that goes and comes again each time.
func TestWatchTellsOfMissingTopicsOnce(t *testing.T) {
	index, topic := newFakeIndex()
	var last *metadataSnapshot
	var watch, all metadataWatch
	watch.topics, all.all = []string{"a", "never"}, true
	tell := func(w *metadataWatch) string {
		m := w.next(last)
		out := fmt.Sprint(m.GetMissing())
		for _, t := range m.GetTopics() {
			out += " " + t.GetTopic().GetName()
		}
		return out
	}
	check := func(some, every string) {
		t.Helper()
		last = metadataSnapshotOf(index, last)
		if got := tell(&watch); got != some {
			t.Errorf("told %q, want %q", got, some)
		}
		if got := tell(&all); got != every {
			t.Errorf("told of all %q, want %q", got, every)
		}
	}
	check("[never] a", "[] a")
	check("[]", "[]")
	delete(index.topics, "a")
	check("[a]", "[a]")
	check("[]", "[]")
	topic.ID = meta.TopicID{9}
	index.topics["a"] = topic
	check("[] a", "[] a")
}

func TestWatchesAreCapped(t *testing.T) {
	watches := newMetadataWatches(clock.System())
	for range maxMetadataWatches {
		if !watches.enter(0) {
			t.Fatal("refused too early")
		}
	}
	service := &clusterService{watches: watches}
	err := service.watch(t.Context(), &tidemarkv1.WatchMetadataRequest{All: true}, nil)
	if ReasonOf(err) != ReasonBackPressure {
		t.Error(err)
	}
	many := make([]string, maxMetadataTopics+1)
	if err := service.watch(t.Context(), &tidemarkv1.WatchMetadataRequest{Topics: many}, nil); ReasonOf(err) != ReasonTooLarge {
		t.Error(err)
	}
	if err := service.watch(t.Context(), &tidemarkv1.WatchMetadataRequest{Topics: []string{"a/b"}}, nil); ReasonOf(err) != ReasonInvalidTopic {
		t.Error(err)
	}
}

func TestAFetchFromSeveralLeaders(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 3, nil)
		fetch := func(wait time.Duration, maxBytes int, offsets ...int64) ([]PartitionBatches, error) {
			q := FetchRequest{Topic: "a", MaxWait: wait, MinBytes: 1, MaxBytes: maxBytes}
			for n, offset := range offsets {
				q.Partitions = append(q.Partitions, FetchPartition{Partition: int32(n), Offset: offset})
			}
			return w.nodes["n1"].router.Fetch(w.ctx, q)
		}
		of := func(parts []PartitionBatches) string {
			out := ""
			for _, p := range parts {
				out += fmt.Sprintf("%d:%d/%d ", p.Partition, p.NextOffset, p.HighWatermark)
			}
			return out
		}
		began := clock.System().Now()
		since := func() time.Duration {
			d := clock.System().Now().Sub(began)
			began = clock.System().Now()
			return d
		}
		for partition := range int32(3) {
			w.nodes["n2"].mustSend("a", partition, "x")
		}
		since()
		got, err := fetch(time.Minute, 0, 0, 0, 0)
		if took := since(); err != nil || of(got) != "0:1/1 1:1/1 2:1/1 " || took > time.Second {
			t.Errorf("%s, %v after %s", of(got), err, took)
		}
		// One leader has something, the others are not waited for.
		got, err = fetch(time.Minute, 0, 1, 1, 0)
		if took := since(); err != nil || of(got) != "0:1/1 1:1/1 2:1/1 " || took > time.Second {
			t.Errorf("%s, %v after %s", of(got), err, took)
		}
		got, err = fetch(3*time.Second, 0, 1, 1, 1)
		if took := since(); err != nil || of(got) != "0:1/1 1:1/1 2:1/1 " || took < 3*time.Second || took > 4*time.Second {
			t.Errorf("a poll that nothing comes to: %s, %v after %s", of(got), err, took)
		}
		// The cap holds for all leaders together, and the first batch is given all the same.
		if got, err = fetch(0, 1, 0, 0, 0); err != nil || of(got) != "0:1/1 1:0/1 2:0/1 " {
			t.Errorf("%s, %v", of(got), err)
		}
		if _, err = fetch(time.Minute, 0, 0, 9, 0); ReasonOf(err) != ReasonOffsetOutOfRange {
			t.Errorf("an offset that is not there: %v", err)
		}
		if _, err = fetch(time.Minute, 0, 0, 0, 0, 0); ReasonOf(err) != ReasonUnknownPartition {
			t.Errorf("a partition that is not there: %v", err)
		}
		partition := w.ledBy("a", "n2")
		w.nodes["n2"].kill()
		offsets := []int64{1, 1, 1}
		since()
		got, err = fetch(time.Second, 0, offsets...)
		if took := since(); err != nil || of(got) != "0:1/1 1:1/1 2:1/1 " || took < time.Second {
			t.Errorf("a poll while a leader is away: %s, %v after %s", of(got), err, took)
		}
		if _, err = w.nodes["n1"].router.Fetch(w.ctx, FetchRequest{Topic: "a", Partitions: []FetchPartition{{Partition: partition}}}); ReasonOf(err) != ReasonNotLeader {
			t.Errorf("a look at a leader that is away: %v", err)
		}
		offsets[partition] = 0
		since()
		got, err = fetch(time.Minute, 0, offsets...)
		if took := since(); err != nil || of(got) != "0:1/1 1:1/1 2:1/1 " || took > 15*time.Second || len(got[partition].Batches) == 0 {
			t.Errorf("a poll over a take-over: %s, %v after %s", of(got), err, took)
		}
	})
}
