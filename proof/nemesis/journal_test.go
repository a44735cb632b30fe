package nemesis

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/history"
)

// diary is a journal of a cluster on paper, with one topic of one partition.
type diary struct {
	*journal

	t        *testing.T
	topic    meta.TopicID
	revision int64
}

func newDiary(t *testing.T) *diary {
	t.Helper()
	topic := meta.TopicID{1}
	w := &Workload{
		cluster: paper(3), history: history.New(), began: clock.System().Now(), config: WorkloadConfig{Topics: []TopicSpec{{Name: "events", Partitions: 1}}},
		names: map[string][]string{"events": {"events/0"}}, partitions: make(map[string][]history.Partition),
	}
	w.partitions["events"] = []history.Partition{w.history.Partition("events/0")}
	w.journal = &journal{
		work: w, keys: meta.NewKeys(clusterName), topics: map[meta.TopicID]string{topic: "events"}, turns: make(map[string][]turn),
	}
	return &diary{journal: w.journal, t: t, topic: topic}
}

func (d *diary) put(key string, value []byte) *clientv3.Event {
	return &clientv3.Event{Type: mvccpb.PUT, Kv: &mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: d.revision}}
}

// object is the event of a committed object with one block.
func (d *diary) object(node meta.NodeID, seq meta.Seq, epoch meta.Epoch, from, to int64) *clientv3.Event {
	now := clock.System().Now().UnixMilli()
	index := meta.L0Index{Entries: []meta.L0Entry{{Topic: d.topic, Epoch: epoch, BaseOffset: from, Count: int32(to - from), Length: 1, Batches: 1, FirstAppend: now, LastAppend: now}}}
	encoded := index.Encode()
	r := meta.L0Record{
		Object: meta.L0ObjectName(node, 7, seq, 0), Size: 100, IndexOffset: 1, IndexLength: int32(len(encoded)), IndexCRC: meta.CRC32C(encoded), Inline: true, Index: index,
	}
	return d.put(d.keys.L0(node, 7, seq), r.Encode())
}

func (d *diary) happens(events ...*clientv3.Event) {
	d.t.Helper()
	d.revision++
	for _, e := range events {
		e.Kv.ModRevision = d.revision
	}
	d.take(events)
	if err := d.knows(); err != nil {
		d.t.Fatal(err)
	}
}

// found are the kinds of anomalies in what the history was told.
func (d *diary) found() string {
	var out []string
	for kind := range d.work.history.Check(history.Options{Registers: true, RegisterTimeout: time.Second}).Anomalies {
		out = append(out, string(kind))
	}
	return strings.Join(out, " ")
}

func TestJournalOfGoodLeaders(t *testing.T) {
	d := newDiary(t)
	d.happens(d.object("n1", 1, 1, 0, 10))
	d.happens(d.object("n1", 2, 1, 10, 15))
	// Both are merged into one, which adds nothing.
	d.happens(d.object("n1", 2, 1, 0, 15), &clientv3.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte(d.keys.L0("n1", 7, 1))}})
	d.happens(d.object("n2", 1, 2, 15, 20))
	if kinds := d.found(); kinds != "" {
		t.Errorf("anomalies: %s", kinds)
	}
	if err := d.appended("events/0", 10, 14, 1); err != nil {
		t.Error(err)
	}
	if err := d.appended("events/0", 15, 19, 2); err != nil {
		t.Error(err)
	}
	// What the log must not have: a batch of another epoch, and one that nobody committed.
	if err := d.appended("events/0", 15, 19, 1); err == nil {
		t.Error("a batch with the epoch of another leader is fine")
	}
	if err := d.appended("events/0", 18, 20, 2); err == nil {
		t.Error("a batch above what was committed is fine")
	}
}

func TestJournalSeesBadLeaders(t *testing.T) {
	for _, c := range []struct {
		name, want string
		second     func(d *diary) *clientv3.Event
	}{
		{"two at one epoch", string(history.TwoLeaders), func(d *diary) *clientv3.Event { return d.object("n2", 1, 3, 10, 20) }},
		{"an epoch that went back", string(history.EpochBack), func(d *diary) *clientv3.Event { return d.object("n2", 1, 2, 10, 20) }},
		{"offsets given twice", string(history.ReusedOffset), func(d *diary) *clientv3.Event { return d.object("n2", 1, 4, 9, 20) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDiary(t)
			d.happens(d.object("n1", 1, 3, 0, 10))
			d.happens(c.second(d))
			if kinds := d.found(); !strings.Contains(kinds, c.want) {
				t.Errorf("anomalies: %q, want %s", kinds, c.want)
			}
		})
	}
}

func TestHandover(t *testing.T) {
	d := newDiary(t)
	prefix := d.keys.Prefix()
	d.happens(d.object("n1", 1, 1, 0, 10))
	since := d.last + 1
	wait(t.Context(), 5*time.Millisecond) // times of a real clock
	d.happens(d.put(prefix+"drain/n1", nil))
	d.happens(d.object("n1", 2, 1, 10, 15), d.put(prefix+"release/n1", nil))
	released := d.last
	d.happens(d.put(prefix+"assign/n2", nil), d.put(prefix+"assign/n1", nil))
	assigned := d.last
	d.happens(d.object("n2", 1, 2, 15, 20))
	committed := d.last
	stall := Stall{Partition: "events/0", From: 0, To: committed + time.Millisecond}
	got := d.work.handovers(d.work.cluster.nodes[0], since, committed+time.Second, []Stall{{Partition: "events/0", From: 0, To: committed + time.Second}, stall, {Partition: "other/0", To: committed}})
	if len(got) != 1 {
		t.Fatalf("%d handovers: %+v", len(got), got)
	}
	h := got[0]
	if h.from.node != "n1" || h.to.node != "n2" || h.released != released || h.assigned != assigned || h.committed != committed || h.stall != stall {
		t.Errorf("%+v, want released %v, assigned %v, committed %v", h, released, assigned, committed)
	}
	if n := len(inOrder(got, since)); n != 1 {
		t.Errorf("%d handovers in order", n)
	}
	if left := inOrder(got, committed+time.Second); len(left) != 0 {
		t.Errorf("in order though the leader took over before: %+v", left)
	}
	if text := table(got, since); !strings.Contains(text, "n1→n2") {
		t.Error(text)
	}
	if lastOf(got) != committed || lastOf(nil) != 0 {
		t.Errorf("the last was complete at %v", lastOf(got))
	}
}

func TestReadings(t *testing.T) {
	r := newReadings()
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	r.acked("p", 4, ms(100))
	r.acked("p", 9, ms(200))
	r.polled("p", 5, ms(500))   // 400 ms after the first was acknowledged
	r.polled("p", 10, ms(1100)) // and 600 ms after that
	r.polled("p", 8, ms(3000))  // read again
	r.polled("p", 12, ms(5000)) // nothing waited
	r.acked("p", 11, ms(5100))  // read already
	r.acked("p", 12, ms(6000))
	r.polled("p", 13, ms(6050))
	longest, stalls := r.result()
	if want := (Stall{Partition: "p", From: ms(500), To: ms(1100)}); longest != want || len(stalls) != 2 {
		t.Errorf("longest %+v of %+v, want %+v", longest, stalls, want)
	}
	if s := longestIn(stalls, 0, ms(450)); s.Length() != ms(400) {
		t.Errorf("at the beginning: %+v", s)
	}
	if s := longestIn(stalls, ms(1100), ms(9000)); s.Length() != 0 {
		t.Errorf("at the end: %+v", s)
	}
}
