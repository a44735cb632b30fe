package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// fakeIndex is a cluster as somebody says that it is.
type fakeIndex struct {
	revision meta.Revision
	topics   map[string]meta.Topic
	leaders  map[meta.Partition]meta.Leadership
	nodes    map[meta.NodeID]meta.NodeInfo
	released map[meta.PartitionEpoch]meta.NodeID
	assigned []meta.Assignment
	drains   map[meta.NodeID]meta.Drain
	ends     map[meta.Partition]int64
	holes    map[meta.Partition]error
}

func (i *fakeIndex) Revision() meta.Revision { return i.revision }

func (i *fakeIndex) WaitFor(ctx context.Context, revision meta.Revision) error {
	if i.revision >= revision {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (i *fakeIndex) Changed() <-chan struct{} { return nil }

func (i *fakeIndex) Topic(name string) (meta.Topic, bool) {
	t, ok := i.topics[name]
	return t, ok
}

func (i *fakeIndex) TopicByID(id meta.TopicID) (meta.Topic, bool) {
	for _, t := range i.topics {
		if t.ID == id {
			return t, true
		}
	}
	return meta.Topic{}, false
}

func (i *fakeIndex) Topics() []meta.Topic {
	var out []meta.Topic
	for _, t := range i.topics {
		out = append(out, t)
	}
	return out
}

func (i *fakeIndex) TopicsRevision() meta.Revision { return i.revision }

func (i *fakeIndex) Leader(p meta.Partition) (meta.Leadership, bool) {
	l, ok := i.leaders[p]
	return l, ok
}

func (i *fakeIndex) Released(node meta.NodeID, p meta.Partition, epoch meta.Epoch) bool {
	return node != "" && i.released[meta.PartitionEpoch{Partition: p, Epoch: epoch}] == node
}

func (i *fakeIndex) Assignments() []meta.Assignment { return i.assigned }

func (i *fakeIndex) Node(id meta.NodeID) (meta.NodeInfo, bool) {
	n, ok := i.nodes[id]
	return n, ok
}

func (i *fakeIndex) Nodes() []meta.NodeInfo {
	var out []meta.NodeInfo
	for _, n := range i.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b meta.NodeInfo) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

func (i *fakeIndex) Drains() map[meta.NodeID]meta.Drain { return i.drains }
func (i *fakeIndex) Controller() (meta.NodeID, bool)    { return "n1", true }
func (i *fakeIndex) Start(meta.Partition) int64         { return 0 }
func (i *fakeIndex) End(p meta.Partition) int64         { return i.ends[p] }
func (i *fakeIndex) Hole(p meta.Partition) error        { return i.holes[p] }
func (i *fakeIndex) Room(int32) bool                    { return true }
func (i *fakeIndex) lead(p meta.Partition, n meta.NodeID) {
	i.leaders[p] = meta.Leadership{Node: n, Epoch: 1, Disk: "disk-" + string(n)}
}

// newFakeIndex has nodes n1, n2 and n3, and topic a with six partitions, led by n1, n2, n3, n1, n2, n3.
func newFakeIndex() (*fakeIndex, meta.Topic) {
	topic := meta.Topic{Name: "a", ID: meta.TopicID{1}, Partitions: 6}
	i := &fakeIndex{
		revision: 7, topics: map[string]meta.Topic{"a": topic}, leaders: make(map[meta.Partition]meta.Leadership),
		nodes: make(map[meta.NodeID]meta.NodeInfo), released: make(map[meta.PartitionEpoch]meta.NodeID),
		ends: make(map[meta.Partition]int64), holes: make(map[meta.Partition]error),
	}
	for n := range 3 {
		id := meta.NodeID(fmt.Sprintf("n%d", n+1))
		i.nodes[id] = meta.NodeInfo{ID: id, HTTP: "http://" + string(id), Disk: "disk-" + string(id), Incarnation: 1}
	}
	for n := range topic.Partitions {
		i.lead(meta.Partition{Topic: topic.ID, Partition: n}, meta.NodeID(fmt.Sprintf("n%d", n%3+1)))
	}
	return i, topic
}

func TestWhoLeadsAndWhatItWaitsFor(t *testing.T) {
	p := func(n int32) meta.Partition { return meta.Partition{Topic: meta.TopicID{1}, Partition: n} }
	for name, c := range map[string]struct {
		change func(i *fakeIndex, t *meta.Topic)
		says   string // "" when somebody serves it
		reason Reason
	}{
		"served":                    {func(*fakeIndex, *meta.Topic) {}, "", ""},
		"nobody":                    {func(i *fakeIndex, _ *meta.Topic) { delete(i.leaders, p(1)) }, "nobody leads it yet", ReasonNotLeader},
		"moving":                    {func(i *fakeIndex, _ *meta.Topic) { i.released[meta.PartitionEpoch{Partition: p(1), Epoch: 1}] = "n2" }, "moving away from node n2", ReasonNotLeader},
		"dead":                      {func(i *fakeIndex, _ *meta.Topic) { delete(i.nodes, "n2") }, "another node takes over", ReasonNotLeader},
		"dead with its disk":        {func(i *fakeIndex, t *meta.Topic) { delete(i.nodes, "n2"); t.Config.Durability = meta.DurabilityDisk }, "forget-node n2", ReasonNotLeader},
		"dead with what it held":    {func(i *fakeIndex, t *meta.Topic) { delete(i.nodes, "n2"); t.Held = true }, "forget-node n2", ReasonNotLeader},
		"back on another disk":      {func(i *fakeIndex, _ *meta.Topic) { i.nodes["n2"] = meta.NodeInfo{ID: "n2", Disk: "new"} }, "given it anew", ReasonNotLeader},
		"back without its old disk": {func(i *fakeIndex, t *meta.Topic) { i.nodes["n2"] = meta.NodeInfo{ID: "n2", Disk: "new"}; t.Held = true }, "forget-node n2", ReasonNotLeader},
		"a hole":                    {func(i *fakeIndex, _ *meta.Topic) { i.holes[p(1)] = errors.New("blocks do not join") }, "blocks do not join", ReasonCorruptData},
	} {
		t.Run(name, func(t *testing.T) {
			index, topic := newFakeIndex()
			c.change(index, &topic)
			l, waitsFor := ledBy(index, topic, 1)
			if (waitsFor == "") != (c.says == "") || !strings.Contains(waitsFor, c.says) {
				t.Errorf("it says %q", waitsFor)
			}
			to := here{self: "n1", index: index}.leaderOf(topic, 1)
			if to.node != l.Node || ReasonOf(errorOrNil(to.refused)) != c.reason {
				t.Errorf("%+v", to)
			}
		})
	}
}

func errorOrNil(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

func TestAFetchIsSplitByLeaders(t *testing.T) {
	index, topic := newFakeIndex()
	delete(index.nodes, "n3")
	wanted := []FetchPartition{{5, 50}, {4, 40}, {3, 30}, {2, 20}, {1, 10}}
	parts, open, away := splitFetch(here{self: "n1", index: index}, topic, wanted)
	if got := fmt.Sprint(parts); got != "[{n2 [{4 40} {1 10}]} {n1 [{3 30}]}]" {
		t.Error(got)
	}
	if fmt.Sprint(open) != "[{5 50} {2 20}]" || away == nil || away.Reason != ReasonNotLeader || away.Metadata[metadataLeader] != "n3" {
		t.Error(open, away)
	}
	// A forwarded call goes no further.
	parts, open, away = splitFetch(here{self: "n1", index: index, forwarded: true}, topic, wanted)
	if fmt.Sprint(parts) != "[{n1 [{3 30}]}]" || len(open) != 4 || away.Reason != ReasonNotLeader {
		t.Error(parts, open, away)
	}
}
