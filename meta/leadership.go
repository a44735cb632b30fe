package meta

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Leadership says who is assigned a partition.
type Leadership struct {
	Node  NodeID
	Epoch Epoch
	Disk  string
}

// Drain says why partitions move away from a node and none come.
type Drain struct {
	Wanted   bool // somebody asked for it
	Stopping bool // the node is about to stop
}

// leadership is what an Index knows about who leads and who should.
type leadership struct {
	leaders    map[Partition]Leadership
	drains     map[NodeID]Drain
	drainRevs  map[NodeID]Revision
	asked      map[NodeID]map[Partition]Epoch
	askedRevs  map[NodeID]Revision
	registered map[NodeID]Revision // mod revisions of nodes/<id>
	headRevs   map[NodeID]Revision // of heads/<id>
	// manifestRevs are the mod revisions of the manifests.
	manifestRevs map[Partition]Revision
	controller   *controllerState
	// placementRev is the mod revision of placement; placeRev goes up with whatever a plan of assignments looks at, letGoRev with whatever LetGo
	// looks at, nodesRev with nodes that come and go.
	placementRev, placeRev, letGoRev, nodesRev Revision
	placementCount                             int64 // the value of placement, for people
}

type controllerState struct {
	node        NodeID
	incarnation Incarnation
	rev         Revision
}

func newLeadership() leadership {
	return leadership{
		leaders: make(map[Partition]Leadership), drains: make(map[NodeID]Drain), drainRevs: make(map[NodeID]Revision), asked: make(map[NodeID]map[Partition]Epoch), askedRevs: make(map[NodeID]Revision),
		registered: make(map[NodeID]Revision), headRevs: make(map[NodeID]Revision),
		manifestRevs: make(map[Partition]Revision),
	}
}

// reassign keeps leaders in step with one node's assignment.
func (l *leadership) reassign(node NodeID, before, after Assignment) {
	for p := range before.Epochs {
		if _, kept := after.Epochs[p]; !kept && l.leaders[p].Node == node {
			delete(l.leaders, p)
		}
	}
	for p, e := range after.Epochs {
		// One revision may take a partition from one node and give it to another, in either order of the keys: the higher epoch stands.
		if at, ok := l.leaders[p]; !ok || e >= at.Epoch {
			l.leaders[p] = Leadership{Node: node, Epoch: e, Disk: after.Disk}
		}
	}
}

// Leader tells who is assigned a partition, alive or not.
func (v *Index) Leader(p Partition) (Leadership, bool) {
	l, ok := v.leaders[p]
	return l, ok
}

// Assignment is what a node leads.
func (v *Index) Assignment(node NodeID) (Assignment, bool) {
	a, ok := v.assigned[node]
	return a, ok
}

// Assignments lists what every node leads, by node.
func (v *Index) Assignments() []Assignment {
	out := make([]Assignment, 0, len(v.assigned))
	for _, a := range v.assigned {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Assignment) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return out
}

// Released tells whether a node has let a partition go at this epoch; it never leads it again at that one.
func (v *Index) Released(node NodeID, p Partition, epoch Epoch) bool {
	e, ok := v.released[node][p]
	return ok && e == epoch
}

// ReleasedBy is all that a node has let go, as release/<node> has it.
func (v *Index) ReleasedBy(node NodeID) map[Partition]Epoch { return v.released[node] }

// Node is a registered node.
func (v *Index) Node(id NodeID) (NodeInfo, bool) {
	n, ok := v.nodes[id]
	return n, ok
}

// Nodes lists the nodes that are alive, by id.
func (v *Index) Nodes() []NodeInfo {
	out := make([]NodeInfo, 0, len(v.nodes))
	for _, n := range v.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b NodeInfo) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// Controller is the node that assigns partitions.
func (v *Index) Controller() (NodeID, bool) {
	if v.controller == nil {
		return "", false
	}
	return v.controller.node, true
}

// Drains are the nodes that partitions move away from.
func (v *Index) Drains() map[NodeID]Drain {
	return maps.Clone(v.drains)
}

// LetGo tells whether the cluster wants a node to let a partition go that it leads at this epoch: it was asked to, or it is being
// drained and another node could take it. Nothing that is safe rests on the answer.
func (v *Index) LetGo(node NodeID, p Partition, epoch Epoch) bool {
	if e, ok := v.asked[node][p]; ok && e == epoch {
		return true
	}
	_, draining := v.drains[node]
	return draining && v.heir(node)
}

// LetGoRevision goes up whenever an answer of LetGo may have changed.
func (v *Index) LetGoRevision() Revision { return v.letGoRev }

// PlaceRevision goes up whenever a plan of assignments may have changed.
func (v *Index) PlaceRevision() Revision { return v.placeRev }

// NodesRevision goes up whenever a node comes or goes.
func (v *Index) NodesRevision() Revision { return v.nodesRev }

// heir tells whether somebody else could lead what a node leads.
func (v *Index) heir(node NodeID) bool {
	for id, n := range v.nodes {
		if _, draining := v.drains[id]; id != node && !draining && leads(n) && !v.holdsBack(n) && len(v.assigned[id].Epochs) < maxAssigned {
			return true
		}
	}
	return false
}

// HeldBack is ErrDiskChanged when a node may lead nothing because it has come back with another disk than the one that holds what it led.
func (v *Index) HeldBack(node NodeID) error {
	n, ok := v.nodes[node]
	if !ok || !v.holdsBack(n) {
		return nil
	}
	return fmt.Errorf("%w: node %s leads topics with durability=disk on disk %s, and this is disk %s: start it with its own data directory, or give up what only that one has: stop this node, then tidemark cluster forget-node %s",
		ErrDiskChanged, node, v.assigned[node].Disk, n.Disk, node)
}

// leads tells whether a node takes partitions.
func leads(n NodeInfo) bool { return len(n.Roles) == 0 || slices.Contains(n.Roles, RoleIngest) }

// RoleIngest is the role of nodes that lead partitions.
const RoleIngest = "ingest"

type drainValue struct {
	Version  int  `json:"v"`
	Stopping bool `json:"stopping,omitempty"`
}

func decodeDrain(kv KeyValue) (Drain, error) {
	var v drainValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return Drain{}, err
	}
	return Drain{Wanted: !v.Stopping, Stopping: v.Stopping}, nil
}

func decodeController(kv KeyValue) (*controllerState, error) {
	var v controllerValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return nil, err
	}
	incarnation, err := parseIncarnation(kv.Key, v.Incarnation)
	if err != nil {
		return nil, err
	}
	return &controllerState{node: NodeID(v.Node), incarnation: incarnation, rev: kv.Mod}, nil
}

// encodeMoves packs what a node is asked to let go: version u8 = 1, then epochs as in an assignment.
func encodeMoves(epochs map[Partition]Epoch) []byte { return encodeRelease(epochs) }

func decodeMoves(kv KeyValue) (map[Partition]Epoch, error) { return decodeRelease(kv) }

// applyManifest takes a key under manifest/.
func (v *Index) applyManifest(rest string, e Event) error {
	p, err := parsePartition(rest)
	if err != nil {
		return fmt.Errorf("%w: key %s: %w", ErrFormat, e.KV.Key, err)
	}
	delete(v.lost, p)
	delete(v.manifestRevs, p)
	if e.Type == EventPut {
		v.manifestRevs[p] = e.KV.Mod
		if v.lost[p], err = decodeManifest(e.KV); err != nil {
			return err
		}
	}
	log := v.log(p)
	log.lost = v.lost[p].Lost
	log.check(p, 0, len(log.blocks))
	return nil
}
