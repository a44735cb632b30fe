package meta

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// Registration is one incarnation's place in the cluster.
type Registration struct {
	Node        NodeID
	Disk        string
	Incarnation Incarnation
	Lease       LeaseID
	// NodeRev and HeadRev are the mod revisions of nodes/<id> and heads/<id>, for the guards of commits.
	NodeRev, HeadRev Revision
	// PreviousHead is the last commit of the incarnation before, nil when there was none. Its WAL is 0 when it was of another disk.
	PreviousHead *Head
	Revision     Revision
}

// Register makes an incarnation known, by one transaction that writes nodes/<id> on a new lease and heads/<id>. From then on
// no commit of an earlier incarnation of the node can succeed, however late it arrives. It takes over at once from an
// incarnation with the same disk, whose directory the caller holds locked; a live one with another disk is a *HeldError.
// nodes/<id> is written once per incarnation, here: an incarnation that was registered before is refused with ErrLeaseGone.
func (c *Client) Register(ctx context.Context, info NodeInfo, ttl time.Duration) (out Registration, err error) {
	lease, err := c.kv.Grant(ctx, ttl)
	if err != nil {
		return Registration{}, fmt.Errorf("take a lease: %w", err)
	}
	defer func() {
		if err == nil || ctx.Err() != nil {
			return
		}
		// A copy of the transaction that is still on its way fails without the lease; if this fails the lease ends by itself.
		if gone := c.kv.Revoke(ctx, lease); gone != nil {
			c.logger.DebugContext(ctx, "give back the lease of a registration that failed", "cause", gone)
		}
	}()
	out = Registration{Node: info.ID, Disk: info.Disk, Incarnation: info.Incarnation, Lease: lease}
	nodeKey, headKey, clusterKey := c.keys.Node(info.ID), c.keys.Head(info.ID), c.keys.Cluster()
	err = c.retry(ctx, "register node "+string(info.ID), func() (bool, error) {
		read, err := c.kv.Txn(ctx, Txn{Then: []Op{GetOp(nodeKey), GetOp(headKey), GetOp(clusterKey)}})
		if err != nil {
			return false, err
		}
		node, head := read.Gets[0], read.Gets[1]
		// A recovery moves forward what it has read; whoever joins after it has looked would write below.
		cluster := IfAbsent(clusterKey)
		if kv := read.Gets[2]; kv != nil {
			var v clusterValue
			if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
				return true, err
			}
			if v.Recovering {
				return true, fmt.Errorf("%w: end it by running tidemark cluster recover again", ErrRecovering)
			}
			cluster = IfMod(clusterKey, kv.Mod)
		}
		var nodeRev, headRev Revision
		if node != nil {
			held, err := decodeNode(info.ID, *node)
			if err != nil {
				return true, err
			}
			if held.Incarnation == info.Incarnation && node.Lease == lease && head != nil { // an earlier attempt of ours
				out.NodeRev, out.HeadRev, out.Revision = node.Mod, head.Mod, read.Revision
				return true, nil
			}
			if held.Disk != info.Disk {
				return true, &HeldError{Node: info.ID, Disk: held.Disk, HTTP: held.HTTP}
			}
			nodeRev = node.Mod
		}
		next := Head{Incarnation: info.Incarnation, Disk: info.Disk}
		if head != nil {
			before, err := decodeHead(*head)
			if err != nil {
				return true, err
			}
			if before.Incarnation == info.Incarnation {
				return true, fmt.Errorf("incarnation %s of node %s was registered before and has ended: %w", info.Incarnation, info.ID, ErrLeaseGone)
			}
			if before.Disk != "" && before.Disk != info.Disk {
				before.WAL = 0 // of another disk: it says nothing about this one
			}
			out.PreviousHead = &before
			next.WAL = before.WAL
			headRev = head.Mod
		}
		result, err := c.kv.Txn(ctx, Txn{
			If:   []Compare{IfMod(nodeKey, nodeRev), IfMod(headKey, headRev), cluster},
			Then: []Op{PutLeasedOp(nodeKey, encodeNode(info), lease), PutOp(headKey, encodeHead(next))},
		})
		if err != nil || !result.Succeeded {
			return false, err
		}
		out.NodeRev, out.HeadRev, out.Revision = result.Revision, result.Revision, result.Revision
		if mutant.On(mutant.A6) && node != nil {
			out.NodeRev = node.Create
		}
		return true, nil
	})
	if err != nil {
		return Registration{}, err
	}
	return out, nil
}
