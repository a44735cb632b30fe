package ingest

import (
	"context"
	"errors"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
)

// What steps share, and what is looked at after each.

// lives lists the nodes that run and are not paused, those for which want holds.
func (c *cluster) lives(want func(*clusterLife) bool) []*clusterLife {
	var out []*clusterLife
	for _, n := range c.nodes {
		if l := n.life; l != nil && l.ended == nil && !n.paused && want(l) {
			out = append(out, l)
		}
	}
	return out
}

func oneOf[T any](c *cluster, list []T) (T, bool) {
	var none T
	if len(list) == 0 {
		return none, false
	}
	return list[c.choose(len(list))], true
}

// after looks at what a step has done to the nodes.
func (c *cluster) after() {
	for _, n := range c.nodes {
		l := n.life
		if l == nil {
			continue
		}
		if l.ended == nil {
			c.watchMarks(l)
			if l.folding != nil {
				select {
				case l.foldRev = <-l.folding.committed:
					l.folding = nil
					c.folds++
				default:
				}
			}
		}
		if l.ended != nil {
			// The node closes its log, which syncs it, gives its lease back, and begins anew in the same process.
			c.notef("%s: incarnation %s ends: %v", n.id, l.reg.Incarnation, l.ended)
			n.wal.synced = n.wal.end
			n.stop()
			if !n.cutEtcd && c.chance(50) {
				if err := c.etcd.Revoke(context.Background(), l.reg.Lease); err != nil && !errors.Is(err, meta.ErrLeaseGone) && !errors.Is(err, meta.ErrUnavailable) {
					panic(err)
				}
			}
		}
	}
}

// stop forgets everything volatile of a node. What is on its way stays on its way.
func (n *clusterNode) stop() {
	l := n.life
	n.life, n.starting = nil, nil
	if l == nil {
		return
	}
	for _, p := range n.c.producers {
		p.lostConnection(l)
	}
	n.c.puts = slices.DeleteFunc(n.c.puts, func(p *clusterPut) bool { return p.owner == l && p.object == nil })
	for _, r := range n.c.network {
		if r.owner == l {
			r.waited = false
		}
	}
}
