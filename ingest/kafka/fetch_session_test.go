package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/meta"
)

// In a session a partition that was given something goes behind those that were not.
func TestFetchStarvesNobody(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 4, "durability", "disk")
	for range 3 {
		for p := range int32(4) {
			w.put(topic, p, strings.Repeat(fmt.Sprint(p), 5000))
		}
	}
	c := w.dial(w.nodes[0])
	q := asking(topic, 0, 0, 0, 0)
	q.SessionEpoch, q.MaxBytes = 0, 11_000 // two batches
	offsets := make([]int64, 4)
	for round := range 6 {
		a := askWire[*kmsg.FetchResponse](c, 13, q)
		var gave []int32
		for _, p := range a.Topics[0].Partitions {
			if len(p.RecordBatches) > 0 {
				gave = append(gave, p.Partition)
				offsets[p.Partition] += 2
			}
		}
		q = asking(topic)
		q.SessionID, q.SessionEpoch, q.MaxBytes = a.SessionID, int32(round+1), 11_000
		for _, p := range gave {
			part := kmsg.NewFetchRequestTopicPartition()
			part.Partition, part.FetchOffset, part.PartitionMaxBytes = p, min(offsets[p], 3), 1<<20
			q.Topics[0].Partitions = append(q.Topics[0].Partitions, part)
		}
		if round == 3 && slices.Min(offsets) == 0 {
			t.Fatalf("after four answers partitions were given %v", offsets)
		}
	}
}

// The rules of sessions, one after the other on one connection.
func TestFetchSessions(t *testing.T) {
	for _, version := range []int16{7, 12, 13, 18} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			w := newWorld(t, 1)
			topic, other := w.create("t", 3, "durability", "disk"), w.create("u", 1, "durability", "disk")
			w.put(topic, 1, "a")
			c := w.dial(w.nodes[0])
			var id int32
			fetch := func(epoch int32, q *kmsg.FetchRequest) string {
				t.Helper()
				q.SessionID, q.SessionEpoch = id, epoch
				a := askWire[*kmsg.FetchResponse](c, version, q)
				if a.SessionID != 0 {
					id = a.SessionID
				}
				return inWords(t, a)
			}
			expect := func(what, said, want string) {
				t.Helper()
				if said != want {
					t.Fatalf("%s: %q, want %q", what, said, want)
				}
			}
			nothing := func() *kmsg.FetchRequest { q := asking(topic); q.Topics = nil; return q }
			only := func(topic meta.Topic, p int32, offset int64) *kmsg.FetchRequest {
				q := asking(topic, offset)
				q.Topics[0].Partitions[0].Partition = p
				return q
			}

			expect("an unknown one", fetch(5, asking(topic, 0, 0, 0)), "FETCH_SESSION_ID_NOT_FOUND")
			expect("the first answer tells of all", fetch(0, asking(topic, 0, 0, 0)), "0: 1:a 2:")
			if id == 0 {
				t.Fatal("there is no session")
			}
			expect("an epoch too far", fetch(2, nothing()), "INVALID_FETCH_SESSION_EPOCH")
			expect("what was not taken is given again", fetch(1, nothing()), "1:a")
			expect("nothing is new", fetch(2, only(topic, 1, 1)), "")
			w.put(topic, 2, "b")
			expect("something is", fetch(3, nothing()), "2:b")
			w.put(other, 0, "c")
			expect("one more topic", fetch(4, func() *kmsg.FetchRequest {
				q := only(topic, 2, 1)
				q.Topics = append(q.Topics, asking(other, 0).Topics...)
				return q
			}()), "0:c")
			forget := kmsg.NewFetchRequestForgottenTopic()
			forget.Topic, forget.TopicID, forget.Partitions = topic.Name, topic.ID, []int32{0, 2, 77}
			q := only(other, 0, 1)
			q.ForgottenTopics = append(q.ForgottenTopics, forget)
			expect("and two partitions less", fetch(5, q), "")
			w.put(topic, 0, "unseen")
			w.put(topic, 1, "d")
			expect("only what is left", fetch(6, nothing()), "1:d")
			expect("an offset that is not there", fetch(7, only(topic, 1, 9)), "1:OFFSET_OUT_OF_RANGE")
			expect("an error is told again", fetch(8, nothing()), "1:OFFSET_OUT_OF_RANGE")
			expect("until it is over", fetch(9, only(topic, 1, 2)), "1:")
			if version >= 13 {
				id := id
				q := nothing()
				q.SessionID, q.SessionEpoch = id, 10
				expect("in another tongue", inWords(t, askWire[*kmsg.FetchResponse](c, 12, q)), "FETCH_SESSION_TOPIC_ID_ERROR")
			}
			first := id
			expect("a new one", fetch(0, asking(topic, 1)), "0:")
			if id == first {
				t.Fatal("two sessions have one id")
			}
			second := id
			id = first
			expect("the old one is gone", fetch(10, nothing()), "FETCH_SESSION_ID_NOT_FOUND")
			id = second
			expect("no session any more", fetch(-1, asking(topic, 0)), "0:uns")
			expect("nor the new one", fetch(1, nothing()), "FETCH_SESSION_ID_NOT_FOUND")
			fetch(0, asking(topic, 1))
			other2 := w.dial(w.nodes[0])
			q = nothing()
			q.SessionID, q.SessionEpoch = id, 1
			expect("another's session", inWords(t, askWire[*kmsg.FetchResponse](other2, version, q)), "FETCH_SESSION_ID_NOT_FOUND")
		})
	}
}

// What all sessions remember together is bounded: beyond that clients go on without, and get everything all the same.
func TestFetchSessionsAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("t", 100, "durability", "disk")
	w.put(topic, 99, "x")
	s := w.nodes[0].server
	w.replaceRoom(&s.keptParts, 250)
	q := func() *kmsg.FetchRequest {
		q := asking(topic, make([]int64, 100)...)
		q.SessionEpoch = 0
		return q
	}
	var conns []*wire
	with := 0
	for range 4 {
		c := w.dial(w.nodes[0])
		conns = append(conns, c)
		a := askWire[*kmsg.FetchResponse](c, 13, q())
		if a.SessionID != 0 {
			with++
		}
		if said := inWords(t, a); len(a.Topics[0].Partitions) != 100 || !strings.Contains(said, "99:x") {
			t.Fatal(said)
		}
	}
	if with != 2 {
		t.Fatalf("%d sessions of 100 partitions where there is room for 250", with)
	}
	for _, c := range conns {
		w.must(c.Close())
	}
	for ; with > 0; with-- { // those that are gone give back what they had
		share, err := s.keptParts.Take(w.ctx, 250, nil)
		w.must(err)
		share.Give()
	}
	c := w.dial(w.nodes[0])
	many := kmsg.NewPtrFetchRequest()
	many.Topics = asking(topic, make([]int64, maxFetchParts+1)...).Topics
	c.send(13, many)
	if !c.hungUp() {
		t.Fatal("a fetch of more partitions than anybody needs was served")
	}
}

// replaceRoom makes a room of another size, before any client is there.
func (w *world) replaceRoom(r **room.Room, size int64) {
	s := w.nodes[0].server
	s.mu.Lock()
	defer s.mu.Unlock()
	*r = room.New(size, 50*time.Millisecond, clock.System())
}

// Names that no topic can have are not remembered.
func TestFetchNamesAreNoLongerThanTopics(t *testing.T) {
	w := newWorld(t, 1)
	for _, epoch := range []int32{-1, 0} {
		c := w.dial(w.nodes[0])
		q := asking(topicOf(strings.Repeat("x", maxFetchName)), 0)
		q.SessionEpoch = epoch
		if said := inWords(t, askWire[*kmsg.FetchResponse](c, 12, q)); said != "0:UNKNOWN_TOPIC_OR_PARTITION" {
			t.Error(said)
		}
		q.Topics[0].Topic += "x"
		c.send(12, q)
		if !c.hungUp() {
			t.Error("a fetch from a topic with too long a name was answered")
		}
	}
}

// A partition that cannot be read does not keep its place before the others.
func TestFetchFailuresGoBehind(t *testing.T) {
	session := &fetchSession{id: 1}
	f := fetching{call: &call{frame: frame{head: head{version: 12}}}, session: session, fresh: true}
	bad, good := &fetchPart{fetchKey: fetchKey{topic: &fetchTopic{name: "t"}}}, &fetchPart{fetchKey: fetchKey{topic: &fetchTopic{name: "t"}, partition: 1}}
	session.parts = []*fetchPart{bad, good}
	f.errs = []error{ingest.Errorf(ingest.ReasonUnavailable, "the object store is away"), nil}
	f.asked = []int{1}
	f.answer([]ingest.PartFetched{{}})
	if session.parts[0] != good {
		t.Error("what failed comes first again")
	}
}

// What passes by itself is told with a code at which every client asks again, and with no leader: this node is still the one.
func TestFetchTellsNoLeaderOfWhatPasses(t *testing.T) {
	for reason, names := range map[ingest.Reason]bool{
		ingest.ReasonUnavailable: false, ingest.ReasonBackPressure: false, ingest.ReasonCanceled: false, ingest.ReasonNotLeader: true, ingest.ReasonShuttingDown: true,
	} {
		f := fetching{session: &fetchSession{}}
		err := ingest.Errorf(reason, "a story")
		if code := f.code(err); code != kerr.NotLeaderForPartition.Code || namesLeader(err) != names {
			t.Errorf("%s: %v, a leader: %t", reason, kerr.ErrorForCode(code), namesLeader(err))
		}
	}
}
