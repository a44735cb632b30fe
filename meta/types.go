package meta

import (
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// TopicID names a topic for ever: 128 random bits. A topic that is deleted and made again has another.
type TopicID [16]byte

// String is the id in hexadecimal.
func (id TopicID) String() string { return hex.EncodeToString(id[:]) }

// ParseTopicID reads what String wrote.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("topic id %q: want %d hexadecimal digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("topic id %q: %w", s, err)
	}
	return id, nil
}

// NewTopicID draws an id.
func NewTopicID(random io.Reader) (TopicID, error) {
	var id TopicID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return id, fmt.Errorf("draw a topic id: %w", err)
	}
	return id, nil
}

// NodeID is a node's name in its cluster.
type NodeID string

// Incarnation is one life of a node: a random number drawn at every start.
type Incarnation uint64

// String is the incarnation as it stands in keys and object names: 16 hexadecimal digits.
func (i Incarnation) String() string { return fmt.Sprintf("%016x", uint64(i)) }

// Seq counts within an incarnation: commits, and the objects that they name.
type Seq uint64

// Epoch is a leader's generation. It goes up with every assignment of the partition; the first is 1.
type Epoch = int32

// Partition is one partition of one topic.
type Partition struct {
	Topic     TopicID
	Partition int32
}

// PartitionEpoch is a partition as led in one epoch.
type PartitionEpoch struct {
	Partition
	Epoch Epoch
}

// Topic is a topic as etcd has it.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions int32
	Config     TopicConfig
	Created    time.Time
	// Held says that the disks of its leaders may hold what was acknowledged there alone, though its durability is object by now.
	Held bool
	// Revision is when its key was last written, CreateRevision when it was made.
	Revision, CreateRevision Revision
}

// OnDisk tells whether something that was acknowledged may stand on the disks of the topic's leaders alone: its partitions move
// only when their nodes let go.
func (t Topic) OnDisk() bool { return t.Held || t.Config.Durability == DurabilityDisk }

// NodeInfo is what a node tells the cluster about itself.
type NodeInfo struct {
	ID          NodeID
	Incarnation Incarnation
	// Disk is the random identity of its data directory.
	Disk    string
	HTTP    string // address for clients, "" when there is none
	Kafka   string
	Zone    string
	Roles   []string
	Version string
}

// Head is a node's last commit. Its key has no lease and outlives everything that the commit wrote.
type Head struct {
	Incarnation Incarnation
	Seq         Seq
	// Settled is the number up to which every object of the incarnation is committed or never will be: one of them that no
	// record names is garbage.
	Settled Seq
	// WAL is the position up to which the node knew its log on Disk to be synced when it sent the commit. If that disk's log
	// ends below it, it has been rolled back.
	WAL  uint64
	Disk string
}

// Assignment is what a node leads, as of a revision.
type Assignment struct {
	Node     NodeID
	Disk     string
	Epochs   map[Partition]Epoch
	Revision Revision // mod revision of the key
}

// room is how many partitions of one topic more a node that leads this has room for.
func (a Assignment) room() int {
	if len(encodeAssignment(a.Disk, a.Epochs))+topicBytes > maxAssignBytes {
		return 0
	}
	return max(maxAssigned-len(a.Epochs), 0)
}

// Room tells whether the nodes that take partitions have room for some of one topic more.
func (v *Index) Room(partitions int32) bool {
	room := 0
	for id, n := range v.nodes {
		if _, draining := v.drains[id]; !draining && leads(n) {
			room += v.assigned[id].room()
		}
	}
	return room >= int(partitions)
}
