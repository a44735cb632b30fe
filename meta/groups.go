package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidemark-io/tidemark/proof/failpoint"
)

// Consumer groups in etcd.
//
// One node at a time coordinates a group. groups/<group> says who, and is a chain: every change of anything of the group
// puts that key and compares its mod revision.
//
//	claim    compares groups/<group> and nodes/<id>   puts groups/<group>, coordinator epoch + 1, sequence 0
//	write    compares groups/<group>                  puts groups/<group>, sequence + 1; puts or deletes offsets
//	delete   compares groups/<group>                  deletes groups/<group> and offsets
//
// So whatever a coordinator still had on its way when another one claimed the group fails for ever, however late it arrives:
// offsets and generations never go back behind the claimer's back. A claimer reads the offsets after its claim, when
// nobody else can change them any more.
//
// A write in doubt is sent again unchanged. The sequence inside the value tells whether an earlier copy of it took effect. It
// is in doubt no longer when the key shows another claim: then it may or may not have been made before that claim, and
// the claimer has read what it did.

// ErrNotCoordinator says that another claim of the group came after ours.
var ErrNotCoordinator = errors.New("the group has another coordinator")

// Limits of what a group keeps.
const (
	// MaxGroupName is the longest name of a group, in bytes.
	MaxGroupName = 255
	// MaxOffsetMetadata is the longest metadata of a committed offset, in bytes.
	MaxOffsetMetadata = 4096
	// MaxGroupOffsetsBytes caps the committed offsets of a group in one topic, as GroupOffset.Size counts. 10,000 partitions fit
	// when they have no metadata.
	MaxGroupOffsetsBytes = 256 << 10
	// MaxGroupWriteTopics is how many topics one write can change.
	MaxGroupWriteTopics = 100
	// maxGroupText caps each text of a group's state.
	maxGroupText = 255
)

// GroupState is what etcd keeps of a group besides its offsets.
type GroupState struct {
	// Generation counts rebalances, from 1; 0 before the first. It goes on from one coordinator to the next.
	Generation int32
	// ProtocolType and Protocol are at most 255 bytes each: what kind of members it has, and how they share out partitions.
	ProtocolType, Protocol string
	// Members is how many there are in this generation, and Digest names them, at most 255 bytes.
	Members int
	Digest  string
	// Changed is when the group last changed, by its coordinator's clock, in milliseconds since the epoch. Claims leave it.
	Changed int64
}

// GroupOffset is what a group has committed for one partition.
type GroupOffset struct {
	Offset      int64 // the next one to read, 0 or more
	LeaderEpoch int32 // of the last record read; -1 when not known
	Committed   int64 // when, in milliseconds since the epoch, by the coordinator's clock
	Metadata    string
}

// Size is at least what the offset takes in its value.
func (o GroupOffset) Size() int { return groupOffsetBytes + len(o.Metadata) }

// Validate tells whether the offset can be stored.
func (o GroupOffset) Validate() error {
	switch {
	case o.Offset < 0:
		return fmt.Errorf("an offset cannot be %d", o.Offset)
	case o.LeaderEpoch < -1:
		return fmt.Errorf("a leader epoch cannot be %d", o.LeaderEpoch)
	case len(o.Metadata) > MaxOffsetMetadata:
		return fmt.Errorf("%w: metadata of %d bytes, at most %d are kept with an offset", ErrTooLarge, len(o.Metadata), MaxOffsetMetadata)
	case o.Committed < 0 || o.Committed > maxGroupTime:
		return fmt.Errorf("a time of commit cannot be %d", o.Committed)
	}
	return nil
}

// GroupOffsets are the committed offsets of a group in one topic, by partition.
type GroupOffsets map[int32]GroupOffset

// GroupClaim is one coordinator's hold of a group, and the end of the group's chain as far as it knows. It is a value: each write
// gives the next one.
type GroupClaim struct {
	Group       string
	Node        NodeID
	Incarnation Incarnation
	// Epoch is the coordinator epoch, from 1; it goes up with every claim as long as the group is there.
	Epoch int64
	// Seq is the last write of this claim, 0 before the first.
	Seq uint64
	// Revision is the mod revision of groups/<group>.
	Revision Revision
}

// GroupWrite is one link of a group's chain.
type GroupWrite struct {
	State GroupState
	// Offsets are the topics whose offsets change, at most MaxGroupWriteTopics, each with all that it has from now on. One
	// without offsets is removed.
	Offsets map[TopicID]GroupOffsets
	// Delete removes the group itself; Offsets then only remove, and must name every topic that the group still has.
	Delete bool
}

// ValidateGroupName tells whether a group may have this name: 1 to 255 bytes of UTF-8 without control characters.
func ValidateGroupName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of the group is missing")
	case len(name) > MaxGroupName:
		return fmt.Errorf("the name of a group has at most %d bytes, not %d", MaxGroupName, len(name))
	case !utf8.ValidString(name):
		return fmt.Errorf("the name of a group is UTF-8, which %q is not", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the name of a group has no control characters, but %q has", name)
	}
	return nil
}

// groupKey holds a group. Names are escaped, so that a slash in one is none in the key.
func (k Keys) groupKey(name string) string { return k.prefix + dirGroups + url.PathEscape(name) }

// groupTopicKey holds a group's offsets in a topic.
func (k Keys) groupTopicKey(name string, id TopicID) string {
	return k.groupKey(name) + "/" + id.String()
}

// claimGroupTxn builds a claim: if the group is as revision left it (0: absent) and the claimer's registration stands, put the
// claim, else read both.
func (k Keys) claimGroupTxn(claim GroupClaim, state GroupState, reg Registration, revision Revision) Txn {
	key, node := k.groupKey(claim.Group), k.Node(reg.Node)
	return Txn{
		If:   []Compare{IfMod(key, revision), IfMod(node, reg.NodeRev)},
		Then: []Op{PutOp(key, encodeGroup(claim, state))},
		Else: []Op{GetOp(key), GetOp(node)},
	}
}

// GroupTxn builds the transaction of a write: if the group is as the claim left it, put it anew with the next sequence and
// change the offsets, else read it. Pure: the same write gives the same transaction. What does not fit is ErrTooLarge.
func (k Keys) GroupTxn(claim GroupClaim, w GroupWrite) (Txn, error) {
	what := fmt.Sprintf("write group %q", claim.Group)
	if err := w.State.validate(); err != nil {
		return Txn{}, fmt.Errorf("%s: %w", what, err)
	}
	if len(w.Offsets) > MaxGroupWriteTopics {
		return Txn{}, fmt.Errorf("%s: %w: it changes offsets in %d topics, more than %d", what, ErrTooLarge, len(w.Offsets), MaxGroupWriteTopics)
	}
	key := k.groupKey(claim.Group)
	txn := Txn{If: []Compare{IfMod(key, claim.Revision)}, Else: []Op{GetOp(key)}}
	next := claim
	next.Seq++
	if w.Delete {
		txn.Then = append(txn.Then, DeleteOp(key))
	} else {
		txn.Then = append(txn.Then, PutOp(key, encodeGroup(next, w.State)))
	}
	topics := make([]TopicID, 0, len(w.Offsets))
	for id := range w.Offsets {
		topics = append(topics, id)
	}
	slices.SortFunc(topics, func(a, b TopicID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range topics {
		offsets := w.Offsets[id]
		if len(offsets) == 0 {
			txn.Then = append(txn.Then, DeleteOp(k.groupTopicKey(claim.Group, id)))
			continue
		}
		if w.Delete {
			return Txn{}, fmt.Errorf("%s: it is deleted with offsets", what)
		}
		value, err := encodeGroupOffsets(offsets)
		if err != nil {
			return Txn{}, fmt.Errorf("%s: topic %s: %w", what, id, err)
		}
		txn.Then = append(txn.Then, PutOp(k.groupTopicKey(claim.Group, id), value))
	}
	if err := txn.Validate(); err != nil {
		return Txn{}, fmt.Errorf("%s: %w", what, err)
	}
	return txn, nil
}

// GroupOutcome is what an answer of etcd says about a write.
type GroupOutcome uint8

const (
	// GroupInDoubt: the answer decides nothing. The same transaction must be sent again.
	GroupInDoubt GroupOutcome = iota
	// GroupDone: the write was made.
	GroupDone
	// GroupSuperseded: the group has another claim, or is gone. Whether the write was made before is unknown; it never will be later.
	GroupSuperseded
)

// DecideGroup reads the answer to GroupTxn(claim, w), and gives the claim to go on with when it is done. Pure. A missing answer is in
// doubt, and never comes here.
func (k Keys) DecideGroup(claim GroupClaim, w GroupWrite, result TxnResult) (GroupOutcome, GroupClaim, error) {
	next := claim
	next.Seq++
	next.Revision = result.Revision
	if result.Succeeded {
		return GroupDone, next, nil
	}
	if len(result.Gets) != 1 {
		return GroupInDoubt, GroupClaim{}, fmt.Errorf("%w: a refused write of a group was answered with %d values, not 1", ErrFormat, len(result.Gets))
	}
	kv := result.Gets[0]
	if kv == nil {
		if w.Delete {
			return GroupDone, next, nil // by an earlier copy, or by another coordinator: it is gone
		}
		return GroupSuperseded, GroupClaim{}, nil
	}
	now, _, err := decodeGroup(claim.Group, *kv)
	switch {
	case err != nil:
		return GroupInDoubt, GroupClaim{}, err
	case !now.sameClaim(claim):
		return GroupSuperseded, GroupClaim{}, nil
	case now.Seq >= next.Seq: // an earlier copy of ours
		return GroupDone, now, nil
	}
	return GroupInDoubt, GroupClaim{}, nil
}

func (c GroupClaim) sameClaim(other GroupClaim) bool {
	return c.Node == other.Node && c.Incarnation == other.Incarnation && c.Epoch == other.Epoch
}

// ClaimGroup makes reg's node the coordinator of a group, which comes into being if it is not there. When it returns, no write of
// an earlier coordinator can succeed any more, and state and offsets are those that the earlier ones left. It fails with
// ErrLeaseGone when the node is not registered as reg says.
//
// Claims of one group by one node come one after the other.
func (c *Client) ClaimGroup(ctx context.Context, name string, reg Registration) (GroupClaim, GroupState, map[TopicID]GroupOffsets, error) {
	if err := ValidateGroupName(name); err != nil {
		return GroupClaim{}, GroupState{}, nil, fmt.Errorf("claim group: %w", err)
	}
	what := fmt.Sprintf("claim group %q", name)
	key := c.keys.groupKey(name)
	claim := GroupClaim{Group: name, Node: reg.Node, Incarnation: reg.Incarnation}
	var state GroupState
	err := c.retry(ctx, what, func() (bool, error) {
		kv, _, err := c.kv.Get(ctx, key)
		if err != nil {
			return false, err
		}
		var before GroupClaim
		state = GroupState{}
		if kv != nil {
			if before, state, err = decodeGroup(name, *kv); err != nil {
				return true, err
			}
		}
		claim.Epoch = before.Epoch + 1
		result, err := c.kv.Txn(ctx, c.keys.claimGroupTxn(claim, state, reg, before.Revision))
		if err != nil {
			return false, err
		}
		if result.Succeeded {
			claim.Revision = result.Revision
			return true, nil
		}
		if node := result.Gets[1]; node == nil || node.Mod != reg.NodeRev {
			return true, fmt.Errorf("%s: node %s is not registered as incarnation %s any more: %w", what, reg.Node, reg.Incarnation, ErrLeaseGone)
		}
		return false, nil // somebody else was quicker, or an earlier copy of ours: plan from there
	})
	if err != nil {
		return GroupClaim{}, GroupState{}, nil, err
	}
	var offsets map[TopicID]GroupOffsets
	err = c.retry(ctx, fmt.Sprintf("read the offsets of group %q", name), func() (bool, error) {
		offsets, err = c.groupOffsets(ctx, name)
		return err == nil, err
	})
	if err != nil {
		return GroupClaim{}, GroupState{}, nil, err
	}
	return claim, state, offsets, nil
}

func (c *Client) groupOffsets(ctx context.Context, name string) (map[TopicID]GroupOffsets, error) {
	dir := c.keys.groupKey(name) + "/"
	kvs, _, err := c.kv.Range(ctx, dir, 0)
	if err != nil {
		return nil, err
	}
	out := make(map[TopicID]GroupOffsets, len(kvs))
	for _, kv := range kvs {
		id, err := ParseTopicID(strings.TrimPrefix(kv.Key, dir))
		if err != nil {
			return nil, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
		}
		if out[id], err = decodeGroupOffsets(kv); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// WriteGroup makes one write and returns the claim to go on with. In doubt it sends the same transaction again until etcd decides,
// so an error of ctx says that the write may apply yet; the claim is then of no use, but a new one makes sure that it does not. After
// ErrNotCoordinator the group is another's, and whether the write came before is unknown. After ErrTooLarge nothing was
// written, and the claim stands.
func (c *Client) WriteGroup(ctx context.Context, claim GroupClaim, w GroupWrite) (GroupClaim, error) {
	txn, err := c.keys.GroupTxn(claim, w)
	if err != nil {
		return claim, err
	}
	next := claim
	err = c.retry(ctx, fmt.Sprintf("write group %q", claim.Group), func() (bool, error) {
		failpoint.Here(failpoint.GroupBeforeCommit)
		result, err := c.kv.Txn(ctx, txn)
		failpoint.Here(failpoint.GroupAfterCommit)
		if err != nil {
			return false, err
		}
		outcome, decided, err := c.keys.DecideGroup(claim, w, result)
		switch {
		case err != nil:
			return true, err
		case outcome == GroupSuperseded:
			return true, fmt.Errorf("group %q, coordinator epoch %d: %w", claim.Group, claim.Epoch, ErrNotCoordinator)
		case outcome == GroupDone:
			next = decided
			return true, nil
		}
		return false, nil
	})
	return next, err
}

// HoldsGroup tells by a linearizable read whether a claim was the group's at some moment of the call: nil, or ErrNotCoordinator.
func (c *Client) HoldsGroup(ctx context.Context, claim GroupClaim) error {
	kv, _, err := c.kv.Get(ctx, c.keys.groupKey(claim.Group))
	if err != nil {
		return fmt.Errorf("check who coordinates group %q: %w", claim.Group, err)
	}
	if kv != nil {
		now, _, err := decodeGroup(claim.Group, *kv)
		if err != nil {
			return err
		}
		if now.sameClaim(claim) {
			return nil
		}
	}
	return fmt.Errorf("group %q, coordinator epoch %d: %w", claim.Group, claim.Epoch, ErrNotCoordinator)
}

// StoredGroup is a group as etcd has it, without its offsets.
type StoredGroup struct {
	GroupClaim
	State GroupState
	// Topics are those in which it has committed, by id.
	Topics []TopicID
}

// GroupExists tells by a linearizable read whether there is a group of this name.
func (c *Client) GroupExists(ctx context.Context, name string) (bool, error) {
	kv, _, err := c.kv.Get(ctx, c.keys.groupKey(name))
	if err != nil {
		return false, fmt.Errorf("look for group %q: %w", name, err)
	}
	return kv != nil, nil
}

// StoredGroups lists every group, in the order of their keys. It reads their offsets too: it is for people, and for what runs
// once an hour.
func (c *Client) StoredGroups(ctx context.Context) ([]StoredGroup, error) {
	dir := c.keys.prefix + dirGroups
	kvs, _, err := c.kv.Range(ctx, dir, 0)
	if err != nil {
		return nil, fmt.Errorf("list the groups: %w", err)
	}
	var out []StoredGroup
	topics := make(map[string][]TopicID)
	for _, kv := range kvs {
		rest := strings.TrimPrefix(kv.Key, dir)
		escaped, topic, ofTopic := strings.Cut(rest, "/")
		name, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
		}
		if ofTopic {
			id, err := ParseTopicID(topic)
			if err != nil {
				return nil, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
			}
			topics[name] = append(topics[name], id)
			continue
		}
		claim, state, err := decodeGroup(name, kv)
		if err != nil {
			return nil, err
		}
		out = append(out, StoredGroup{GroupClaim: claim, State: state})
	}
	for i := range out {
		out[i].Topics = topics[out[i].Group]
	}
	return out, nil
}
