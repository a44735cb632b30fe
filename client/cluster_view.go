package client

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

type metadata = tidemarkv1.WatchMetadataResponse

// view is the metadata of a cluster as messages have told it. It is a plain value without I/O; the owner locks.
//
// Nodes answer from an index that may lag, so what they say is ordered: a message below the revision of what is known is older and
// changes nothing, and within one life of a topic (one id) the epoch of a partition does not go down.
type view struct {
	revision int64
	nodes    map[string]node // by id
	sorted   []node          // by id
	topics   map[string]topicView
}

type node struct {
	id, incarnation, url string
	serves               [serveKinds]bool // what it takes
	going                bool             // it is about to go: it takes calls, but others should
}

// serves is a kind of call that a node takes or does not, by its roles.
type serves uint8

const (
	serveLog serves = iota
	serveQueries
	serveKinds
)

var roleOf = [serveKinds]string{serveLog: "ingest", serveQueries: "query"}

type topicView struct {
	id      string
	leaders []leadership // by partition
}

type leadership struct {
	node  string // empty while nobody leads
	epoch int32
}

// leader gives the address of the node that leads a partition.
func (v *view) leader(topic string, partition int32) (url string, epoch int32, ok bool) {
	t := v.topics[topic]
	if partition < 0 || int(partition) >= len(t.leaders) {
		return "", noEpoch, false
	}
	l := t.leaders[partition]
	n, ok := v.nodes[l.node]
	return n.url, l.epoch, ok && n.url != ""
}

// byURL finds a node by its address.
func (v *view) byURL(url string) (node, bool) {
	for _, n := range v.sorted {
		if n.url == url {
			return n, true
		}
	}
	return node{}, false
}

// apply takes a message about the topics asked for. ok is false for one that is older than what is known, of which nothing is taken
// unless believe is set: then it replaces everything. The message is not kept.
func (v *view) apply(r *metadata, asked map[string]bool, believe bool) (changed, ok bool) {
	if r.GetRevision() < v.revision {
		if !believe {
			return false, false
		}
		*v = view{}
	}
	v.revision = r.GetRevision()
	if r.GetNodesChanged() {
		changed = v.setNodes(r.GetNodes()) || changed
	}
	for _, t := range r.GetTopics() {
		if asked[t.GetTopic().GetName()] {
			changed = v.setTopic(t) || changed
		}
	}
	for _, name := range r.GetMissing() {
		if _, known := v.topics[name]; known {
			delete(v.topics, name)
			changed = true
		}
	}
	return changed, true
}

func (v *view) setNodes(list []*tidemarkv1.Node) (changed bool) {
	nodes := make(map[string]node, len(list))
	for _, n := range list {
		is := node{id: n.GetId(), incarnation: n.GetIncarnation(), url: strings.TrimRight(n.GetHttp(), "/"), going: n.GetDraining() || n.GetStopping()}
		for kind, role := range roleOf {
			is.serves[kind] = (len(n.GetRoles()) == 0 || slices.Contains(n.GetRoles(), role))
		}
		nodes[is.id] = is
	}
	if v.nodes != nil && maps.Equal(v.nodes, nodes) {
		return false
	}
	v.nodes = nodes
	v.sorted = slices.SortedFunc(maps.Values(nodes), func(a, b node) int { return cmp.Compare(a.id, b.id) })
	return true
}

func (v *view) setTopic(t *tidemarkv1.TopicMetadata) (changed bool) {
	name, id := t.GetTopic().GetName(), t.GetTopic().GetId()
	old, known := v.topics[name]
	same := known && old.id == id
	next := topicView{id: id, leaders: make([]leadership, len(t.GetPartitions()))}
	for i, p := range t.GetPartitions() {
		next.leaders[i] = leadership{p.GetNode(), p.GetEpoch()}
		if same && i < len(old.leaders) && p.GetEpoch() < old.leaders[i].epoch {
			next.leaders[i] = old.leaders[i]
		}
	}
	if same && slices.Equal(old.leaders, next.leaders) {
		return false
	}
	if v.topics == nil {
		v.topics = map[string]topicView{}
	}
	v.topics[name] = next
	return true
}

// keep forgets the topics that are not in asked.
func (v *view) keep(asked map[string]bool) {
	maps.DeleteFunc(v.topics, func(name string, _ topicView) bool { return !asked[name] })
}
