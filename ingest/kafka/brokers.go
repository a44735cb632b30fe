package kafka

import (
	"hash/fnv"
	"net"
	"slices"
	"strconv"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// broker is a node as Kafka's clients know it.
type broker struct {
	node meta.NodeID
	id   int32
	host string
	port int32
	zone string
}

// BrokerID is the number by which Kafka's clients know a node: 31 bits of a hash of its id, so that every node tells the same without
// anything being kept. Two nodes of one cluster may have the same number, if hardly ever: of a hundred, once in 400,000 clusters. Then the one
// whose id sorts first is known by it, and a process that finds another with its number says so when it starts.
func BrokerID(node meta.NodeID) int32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node))
	x := h.Sum64()
	// FNV leaves names that differ in their last letter close together; the finalizer of MurmurHash3 mixes them.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return int32(x >> 33)
}

// brokers are the nodes that can be reached by Kafka's protocol, by number. dialled is where the client reached this node: it counts for this
// node when it advertises nothing else.
func (s *Server) brokers(index ingest.ClusterIndex, dialled string) []broker {
	out := make([]broker, 0, 8)
	for _, n := range index.Nodes() {
		address := n.Kafka
		if n.ID == s.Self {
			if address = s.Advertise; address == "" {
				address = dialled
			}
		}
		if b, ok := brokerAt(n, address); ok {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b broker) int {
		if a.id != b.id {
			return int(int64(a.id) - int64(b.id))
		}
		if a.node < b.node {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(out, func(a, b broker) bool { return a.id == b.id })
}

func brokerAt(n meta.NodeInfo, address string) (broker, bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return broker{}, false // it has no Kafka listener, or one of another version's form
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return broker{}, false
	}
	return broker{node: n.ID, id: BrokerID(n.ID), host: host, port: int32(port), zone: n.Zone}, true
}

// leaderIn is the number of the node that leads a partition, and its epoch; -1 when nobody leads who can be reached.
func leaderIn(index ingest.ClusterIndex, known []broker, topic meta.Topic, partition int32) (id int32, epoch int32) {
	l, ok := ingest.LeaderNow(index, topic, partition)
	if !ok {
		return -1, -1
	}
	for _, b := range known {
		if b.node == l.Node {
			return b.id, l.Epoch
		}
	}
	return -1, -1
}

// topicUUID is a topic's id as Kafka's clients see it.
func topicUUID(id meta.TopicID) [16]byte { return id }
