package meta

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// LeadEverything has every partition that nobody leads assigned to the caller's node, and returns a revision at which the
// assignment holds. The node becomes the controller if nobody else is; another one is ErrControllerElsewhere.
//
// Every assignment is a link in the chain of the key placement: it compares the revision of that key and writes it anew. So
// of two transactions that were planned from the same state at most one applies, however late, also when they touch
// different nodes. An epoch goes up with every assignment, and the first is 1.
func (c *Client) LeadEverything(ctx context.Context, reg Registration) (Revision, error) {
	var at Revision
	err := c.retry(ctx, "assign partitions", func() (bool, error) {
		state, err := c.readPlacement(ctx)
		if err != nil {
			return !retryable(err), err
		}
		txn, err := planLead(c.keys, state, reg)
		if err != nil {
			return true, err
		}
		if len(txn.Then) == 0 {
			at = state.revision
			return true, nil
		}
		result, err := c.kv.Txn(ctx, txn)
		if err != nil || !result.Succeeded {
			return false, err
		}
		at = result.Revision
		return true, nil
	})
	return at, err
}

// placementState is what an assignment is planned from, at one revision.
type placementState struct {
	revision   Revision
	placement  *KeyValue
	controller *KeyValue
	topics     []Topic
	assigned   map[NodeID]Assignment
	released   map[NodeID]map[Partition]Epoch
	registered map[NodeID]Revision // mod revisions of nodes/<id>
}

func (c *Client) readPlacement(ctx context.Context) (placementState, error) {
	s := placementState{
		assigned: make(map[NodeID]Assignment), released: make(map[NodeID]map[Partition]Epoch), registered: make(map[NodeID]Revision),
	}
	for _, dir := range []string{"placement", "controller", dirTopics, dirAssign, dirRelease, dirNodes} {
		kvs, revision, err := c.kv.Range(ctx, c.keys.prefix+dir, s.revision)
		if err != nil {
			return s, fmt.Errorf("read %s: %w", dir, err)
		}
		s.revision = revision
		for _, kv := range kvs {
			if err := s.take(c.keys, dir, kv); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

func (s *placementState) take(k Keys, dir string, kv KeyValue) (err error) {
	name := strings.TrimPrefix(kv.Key, k.prefix+dir)
	switch {
	case kv.Key == k.Placement():
		s.placement = &kv
	case kv.Key == k.Controller():
		s.controller = &kv
	case dir == dirTopics:
		var t Topic
		if t, err = decodeTopic(name, kv); err == nil {
			s.topics = append(s.topics, t)
		}
	case dir == dirAssign:
		s.assigned[NodeID(name)], err = decodeAssignment(NodeID(name), kv)
	case dir == dirRelease:
		s.released[NodeID(name)], err = decodeRelease(kv)
	case dir == dirNodes:
		s.registered[NodeID(name)] = kv.Mod
	}
	return err
}

// planLead plans the assignment of what nobody leads to one node; a transaction without operations when there is nothing to
// do. Pure.
func planLead(k Keys, s placementState, reg Registration) (Txn, error) {
	txn := Txn{If: []Compare{{Key: k.Placement()}, {Key: k.Controller()}, IfMod(k.Node(reg.Node), reg.NodeRev)}}
	if s.registered[reg.Node] != reg.NodeRev {
		return Txn{}, fmt.Errorf("incarnation %s of node %s is not registered any more: %w", reg.Incarnation, reg.Node, ErrLeaseGone)
	}
	controls := false
	if s.controller != nil {
		var v controllerValue
		if err := decodeJSON(s.controller.Key, s.controller.Value, &v); err != nil {
			return Txn{}, err
		}
		if NodeID(v.Node) != reg.Node {
			return Txn{}, fmt.Errorf("%w: node %s; this release runs one node a cluster", ErrControllerElsewhere, v.Node)
		}
		controls = v.Incarnation == reg.Incarnation.String()
		txn.If[1].Mod = s.controller.Mod
	}
	if s.placement != nil {
		txn.If[0].Mod = s.placement.Mod
	}

	mine := s.assigned[reg.Node]
	epochs := make(map[Partition]Epoch)
	taken := make(map[Partition]bool)
	for node, a := range s.assigned {
		for p, e := range a.Epochs {
			if node == reg.Node {
				epochs[p] = e
			}
			taken[p] = true
		}
	}
	changed := mine.Revision == 0
	if !changed && mine.Disk != reg.Disk {
		// Another disk: what waited on the old one is gone. Topics that promise only objects lose nothing by that.
		for _, t := range s.topics {
			if _, led := epochs[Partition{Topic: t.ID}]; led && t.Config.Durability == DurabilityDisk {
				return Txn{}, fmt.Errorf("%w: node %s led topic %s with durability=disk on disk %s, and this is disk %s: start it with its own data directory",
					ErrDiskChanged, reg.Node, t.Name, mine.Disk, reg.Disk)
			}
		}
		for p := range epochs {
			epochs[p]++
		}
		changed = true
	}
	for p, e := range s.released[reg.Node] {
		if epochs[p] == e { // let go, and nobody else is there to take it: back, at the next epoch
			epochs[p] = e + 1
			changed = true
		}
	}
	if addUnled(reg.Disk, s.topics, taken, epochs) {
		changed = true
	}
	if !changed && controls {
		return Txn{}, nil
	}
	if !controls {
		txn.Then = append(txn.Then, PutLeasedOp(k.Controller(), encodeJSON(controllerValue{
			Version: valueVersion, Node: string(reg.Node), Incarnation: reg.Incarnation.String(),
		}), reg.Lease))
	}
	if changed {
		value := encodeAssignment(reg.Disk, epochs)
		if len(value) > maxAssignBytes || len(epochs) > maxAssigned {
			return Txn{}, fmt.Errorf("%w: node %s would lead %d partitions in %d bytes of metadata; %d and %d are allowed: delete topics, or make them with fewer partitions",
				ErrInvalidTopic, reg.Node, len(epochs), len(value), maxAssigned, maxAssignBytes)
		}
		txn.Then = append(txn.Then, PutOp(k.Assign(reg.Node), value), nextPlacement(k, s.placement))
	}
	return txn, nil
}

// topicBytes is more than one topic adds to an assignment's value.
const topicBytes = 48

// addUnled gives the partitions that nobody leads their first epoch, oldest topics first, as far as one assignment has room.
// What has no room stays without a leader; it is refused where topics are made, and must never keep a node from starting.
func addUnled(disk string, topics []Topic, taken map[Partition]bool, epochs map[Partition]Epoch) (added bool) {
	size := len(encodeAssignment(disk, epochs))
	slices.SortFunc(topics, func(a, b Topic) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	for _, t := range topics {
		var unled []Partition
		for n := range t.Partitions {
			if p := (Partition{Topic: t.ID, Partition: n}); !taken[p] {
				unled = append(unled, p)
			}
		}
		if len(unled) == 0 || size+topicBytes > maxAssignBytes || len(epochs)+len(unled) > maxAssigned {
			continue
		}
		size += topicBytes
		added = true
		for _, p := range unled {
			epochs[p] = 1
		}
	}
	return added
}

// nextPlacement writes the chain's key anew; the value only counts, for people.
func nextPlacement(k Keys, at *KeyValue) Op {
	v := counterValue{Version: valueVersion}
	if at != nil {
		if err := decodeJSON(at.Key, at.Value, &v); err != nil {
			v = counterValue{Version: valueVersion} // its revision is what counts
		}
	}
	v.Next++
	return PutOp(k.Placement(), encodeJSON(v))
}
