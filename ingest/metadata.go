package ingest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// metadataEvery is how often what followers of the metadata see may change: what comes closer together comes in one message.
const metadataEvery = 20 * time.Millisecond

// metadataSnapshot is who is alive and who leads what, at one moment. It is immutable; two snapshots share what has not changed, so that a
// watch finds changes by comparing pointers.
type metadataSnapshot struct {
	revision meta.Revision
	nodes    *nodesView
	topics   map[string]*tidemarkv1.TopicMetadata
}

type nodesView struct{ nodes []*tidemarkv1.Node }

// metadataVersion changes whenever a snapshot may differ from the last one. It is cheap to make, unlike a snapshot: the index changes with
// every commit, and leaders hardly ever do.
type metadataVersion struct {
	topics      meta.Revision
	assignments map[meta.NodeID]meta.Revision
	nodes       map[meta.NodeID]meta.Incarnation
	drains      map[meta.NodeID]meta.Drain
	controller  meta.NodeID
}

func metadataVersionOf(index clusterIndex) metadataVersion {
	v := metadataVersion{
		topics: index.TopicsRevision(), drains: index.Drains(),
		assignments: make(map[meta.NodeID]meta.Revision), nodes: make(map[meta.NodeID]meta.Incarnation),
	}
	v.controller, _ = index.Controller()
	for _, a := range index.Assignments() {
		v.assignments[a.Node] = a.Revision
	}
	for _, n := range index.Nodes() {
		v.nodes[n.ID] = n.Incarnation
	}
	return v
}

func (v metadataVersion) equal(w metadataVersion) bool {
	return v.topics == w.topics && v.controller == w.controller && maps.Equal(v.assignments, w.assignments) &&
		maps.Equal(v.nodes, w.nodes) && maps.Equal(v.drains, w.drains)
}

// metadataSnapshotOf makes a snapshot of an index, sharing with the last one, which may be nil, what is the same.
func metadataSnapshotOf(index clusterIndex, last *metadataSnapshot) *metadataSnapshot {
	if last == nil {
		last = &metadataSnapshot{nodes: &nodesView{}}
	}
	topics := index.Topics()
	out := &metadataSnapshot{revision: index.Revision(), nodes: &nodesView{}, topics: make(map[string]*tidemarkv1.TopicMetadata, len(topics))}
	alive := make(map[meta.NodeID]bool)
	for _, n := range nodeMessages(index) {
		if n.GetAlive() {
			alive[meta.NodeID(n.GetId())] = true
			out.nodes.nodes = append(out.nodes.nodes, n)
		}
	}
	if slices.EqualFunc(out.nodes.nodes, last.nodes.nodes, func(a, b *tidemarkv1.Node) bool { return proto.Equal(a, b) }) {
		out.nodes = last.nodes
	}
	for _, t := range topics {
		m := &tidemarkv1.TopicMetadata{Topic: topicMessage(t), Partitions: make([]*tidemarkv1.PartitionLeader, t.Partitions)}
		for n := range t.Partitions {
			m.Partitions[n] = &tidemarkv1.PartitionLeader{}
			if l, ok := index.Leader(meta.Partition{Topic: t.ID, Partition: n}); ok && alive[l.Node] {
				m.Partitions[n].Node, m.Partitions[n].Epoch = string(l.Node), l.Epoch
			}
		}
		if before := last.topics[t.Name]; before != nil && proto.Equal(before, m) {
			m = before
		}
		out.topics[t.Name] = m
	}
	return out
}

// metadataWatches makes snapshots for everybody who watches. One goroutine looks at the index; who watches takes the newest snapshot when it
// can send, so that a slow client costs what it is being sent, and the snapshot that it is at, for as long as it may be slow.
type metadataWatches struct {
	clock clock.Clock

	mu      sync.Mutex
	current *metadataSnapshot // nil before the first
	moved   chan struct{}     // closed at the next one
	open    int
	named   int // bytes of the names that the open ones follow
}

func newMetadataWatches(c clock.Clock) *metadataWatches {
	return &metadataWatches{clock: c, moved: make(chan struct{})}
}

// run keeps the snapshot current until ctx ends.
func (w *metadataWatches) run(ctx context.Context, r *Router) {
	var version metadataVersion
	for {
		h, refused := r.here(ctx)
		var changed, home <-chan struct{}
		if refused == nil {
			// Asked for before the index is looked at, so that no change is missed; a node that begins anew has another index.
			changed, home = h.index.Changed(), h.home.change()
			if now := metadataVersionOf(h.index); !now.equal(version) {
				version = now
				w.publish(metadataSnapshotOf(h.index, w.latest()))
			}
		}
		if !pause(ctx, w.clock, metadataEvery) {
			return
		}
		if refused != nil {
			continue
		}
		select {
		case <-changed:
		case <-home:
		case <-ctx.Done():
			return
		}
	}
}

func (w *metadataWatches) latest() *metadataSnapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

func (w *metadataWatches) publish(s *metadataSnapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = s
	close(w.moved)
	w.moved = make(chan struct{})
}

// next returns the newest snapshot and what is closed when there is a newer one.
func (w *metadataWatches) next() (*metadataSnapshot, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, w.moved
}

// enter counts one more watch that names topics of so many bytes; false when there are as many as may be. Whoever enters leaves with the
// same size.
func (w *metadataWatches) enter(size int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open >= maxMetadataWatches || w.named+size > maxWatchedBytes {
		return false
	}
	w.open++
	w.named += size
	return true
}

func (w *metadataWatches) leave(size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	w.named -= size
}

// watchedSize is what the names of a watch hold in memory, about.
func watchedSize(names []string) int {
	size := 0
	for _, name := range names {
		size += 64 + len(name)
	}
	return size
}

// metadataWatch is one client that follows the metadata. What it was sent is told by the snapshot that it was at last, which all share who are
// there, so that a watch itself holds no more than the names that it follows.
type metadataWatch struct {
	topics []string // sorted; nil with all
	all    bool

	at *metadataSnapshot // nil before the first message
}

// next is the message that takes the client to a snapshot; nil when there is nothing new in it. The first holds everything.
func (w *metadataWatch) next(s *metadataSnapshot) *tidemarkv1.WatchMetadataResponse {
	out := &tidemarkv1.WatchMetadataResponse{Revision: s.revision}
	first, last := w.at == nil, w.at
	if first {
		last = &metadataSnapshot{}
	}
	if first || last.nodes != s.nodes {
		out.NodesChanged, out.Nodes = true, s.nodes.nodes
	}
	if w.all {
		changesOfAll(last, s, out)
	} else {
		w.changesOfSome(last, s, out)
	}
	w.at = s
	if !first && !out.GetNodesChanged() && len(out.GetTopics()) == 0 && len(out.GetMissing()) == 0 {
		return nil
	}
	return out
}

func (w *metadataWatch) changesOfSome(last, s *metadataSnapshot, out *tidemarkv1.WatchMetadataResponse) {
	for _, name := range w.topics {
		before, now := last.topics[name], s.topics[name]
		switch {
		case now == nil && (before != nil || w.at == nil):
			out.Missing = append(out.Missing, name)
		case now != before:
			out.Topics = append(out.Topics, now)
		}
	}
}

func changesOfAll(last, s *metadataSnapshot, out *tidemarkv1.WatchMetadataResponse) {
	for name, now := range s.topics {
		if last.topics[name] != now {
			out.Topics = append(out.Topics, now)
		}
	}
	for name := range last.topics {
		if s.topics[name] == nil {
			out.Missing = append(out.Missing, name)
		}
	}
	slices.SortFunc(out.GetTopics(), func(a, b *tidemarkv1.TopicMetadata) int {
		return strings.Compare(a.GetTopic().GetName(), b.GetTopic().GetName())
	})
	slices.Sort(out.GetMissing())
}
