package meta

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// Keys names every key of one cluster. docs/formats/etcd.md lists them with their values.
type Keys struct{ prefix string }

// NewKeys gives the keys of a cluster, all under /tidemark/<cluster>/.
func NewKeys(cluster string) Keys { return Keys{prefix: "/tidemark/" + cluster + "/"} }

// Prefix is what every key of the cluster begins with.
func (k Keys) Prefix() string { return k.prefix }

// The directories below the prefix. users/ and acl/ belong to later capabilities: nothing else may use them.
const (
	dirTopics   = "topics/"
	dirDeleted  = "deleted/"
	dirNodes    = "nodes/"
	dirHeads    = "heads/"
	dirRelease  = "release/"
	dirAssign   = "assign/"
	dirDrain    = "drain/"
	dirMoves    = "moves/"
	dirL0       = "l0/"
	dirManifest = "manifest/"
	dirSchemas  = "schemas/"
	dirGroups   = "groups/"
)

// Cluster holds the cluster's id.
func (k Keys) Cluster() string { return k.prefix + "cluster" }

// Controller holds who assigns partitions.
func (k Keys) Controller() string { return k.prefix + "controller" }

// Placement is the chain that every assignment goes through.
func (k Keys) Placement() string { return k.prefix + "placement" }

// ProducersNext holds the next block of producer ids.
func (k Keys) ProducersNext() string { return k.prefix + "producers/next" }

// Topic holds a topic.
func (k Keys) Topic(name string) string { return k.prefix + dirTopics + name }

// Deleted marks a topic whose deletion is in progress.
func (k Keys) Deleted(id TopicID) string { return k.prefix + dirDeleted + id.String() }

// Node holds a node's incarnation, on its lease.
func (k Keys) Node(id NodeID) string { return k.prefix + dirNodes + string(id) }

// Head holds a node's last commit.
func (k Keys) Head(id NodeID) string { return k.prefix + dirHeads + string(id) }

// Release holds what a node has flushed and let go.
func (k Keys) Release(id NodeID) string { return k.prefix + dirRelease + string(id) }

// Assign holds what a node leads.
func (k Keys) Assign(id NodeID) string { return k.prefix + dirAssign + string(id) }

// Drain marks a node that partitions move away from.
func (k Keys) Drain(id NodeID) string { return k.prefix + dirDrain + string(id) }

// Moves holds what the controller asks a node to let go.
func (k Keys) Moves(id NodeID) string { return k.prefix + dirMoves + string(id) }

// L0 holds the record of a committed L0 object.
func (k Keys) L0(node NodeID, incarnation Incarnation, seq Seq) string {
	if mutant.On(mutant.A1) || mutant.On(mutant.A2) {
		incarnation = 0
	}
	return fmt.Sprintf("%s%s%s/%s/%020d", k.prefix, dirL0, node, incarnation, uint64(seq))
}

// Manifest holds the pointer to a partition's manifest.
func (k Keys) Manifest(p Partition) string {
	return fmt.Sprintf("%s%s%s/%d", k.prefix, dirManifest, p.Topic, p.Partition)
}

// Schema holds a topic's columns.
func (k Keys) Schema(id TopicID) string { return k.prefix + dirSchemas + id.String() }

// parseL0 takes the key of an L0 record apart.
func (k Keys) parseL0(key string) (NodeID, Incarnation, Seq, error) {
	parts := strings.Split(strings.TrimPrefix(key, k.prefix+dirL0), "/")
	if !strings.HasPrefix(key, k.prefix+dirL0) || len(parts) != 3 {
		return "", 0, 0, fmt.Errorf("%w: key %q is not that of an L0 record", ErrFormat, key)
	}
	incarnation, err := strconv.ParseUint(parts[1], 16, 64)
	if err != nil {
		return "", 0, 0, fmt.Errorf("%w: key %q: %w", ErrFormat, key, err)
	}
	seq, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return "", 0, 0, fmt.Errorf("%w: key %q: %w", ErrFormat, key, err)
	}
	return NodeID(parts[0]), Incarnation(incarnation), Seq(seq), nil
}
