package nemesis

import (
	"context"
	"errors"
	"sync"
	"time"
)

// cutLinks lets nothing through some links.
type cutLinks struct {
	Links []*Link
	Ways  Ways
}

func (f *cutLinks) Name() string { return "cut " + linkNames(f.Links) + ", " + f.Ways.String() }

func (f *cutLinks) Inject(context.Context) error {
	return each(f.Links, func(l *Link) error { return l.Cut(f.Ways) })
}

func (f *cutLinks) Heal(context.Context) error { return each(f.Links, (*Link).Heal) }

// slowLinks delays what passes, and lets less of it through.
type slowLinks struct {
	Links           []*Link
	Latency, Jitter time.Duration
	Kilobytes       int // a second; 0 is no limit
}

func (f *slowLinks) Name() string { return "slow " + linkNames(f.Links) }

func (f *slowLinks) Inject(context.Context) error {
	return each(f.Links, func(l *Link) error { return l.Slow(f.Latency, f.Jitter, f.Kilobytes) })
}

func (f *slowLinks) Heal(context.Context) error { return each(f.Links, (*Link).Heal) }

// resetLinks resets connections soon after something was sent over them.
type resetLinks struct {
	Links []*Link
	After time.Duration
}

func (f *resetLinks) Name() string { return "reset " + linkNames(f.Links) }

func (f *resetLinks) Inject(context.Context) error {
	return each(f.Links, func(l *Link) error { return l.Reset(f.After) })
}

func (f *resetLinks) Heal(context.Context) error { return each(f.Links, (*Link).Heal) }

func linkNames(links []*Link) string {
	switch len(links) {
	case 0:
		return "nothing"
	case 1:
		return links[0].name
	case 2:
		return links[0].name + " and " + links[1].name
	default:
		return links[0].name + " and so on"
	}
}

// each does something to all links at once, since one that is stuck takes its time.
func each(links []*Link, do func(*Link) error) error {
	failed := make([]error, len(links))
	var work sync.WaitGroup
	for i, l := range links {
		work.Go(func() { failed[i] = do(l) })
	}
	work.Wait()
	return errors.Join(failed...)
}

// choice draws the links that a fault concerns.
type choice func(c *Cluster, random Random) []*Link

// nodeEtcd are all links from one node to etcd, or one of them.
func nodeEtcd(c *Cluster, random Random) []*Link {
	n := drawNode(c, random)
	if one := random.IntN(2*len(n.toEtcd) + 1); one < len(n.toEtcd) {
		return n.toEtcd[one : one+1]
	}
	return n.toEtcd
}

func nodeStore(c *Cluster, random Random) []*Link { return []*Link{drawNode(c, random).toStore} }

func nodeNode(c *Cluster, random Random) []*Link { return []*Link{drawNode(c, random).peers} }

func clientNode(c *Cluster, random Random) []*Link { return drawNode(c, random).clientLinks() }

func linkKinds() []Kind {
	var out []Kind
	for _, l := range []struct {
		name   string
		nodes  int
		choose choice
	}{
		{"node–etcd", 1, nodeEtcd}, {"node–store", 1, nodeStore}, {"node–node", 2, nodeNode}, {"client–node", 1, clientNode},
	} {
		out = append(out,
			Kind{Name: l.name + " cut", Class: OfLinks, Nodes: l.nodes, New: func(c *Cluster, random Random) Fault {
				return &cutLinks{Links: l.choose(c, random), Ways: BothWays}
			}},
			Kind{Name: l.name + " cut one way", Class: OfLinks, Nodes: l.nodes, New: func(c *Cluster, random Random) Fault {
				return &cutLinks{Links: l.choose(c, random), Ways: []Ways{Requests, Answers}[random.IntN(2)]}
			}},
			Kind{Name: l.name + " slow", Class: OfLinks, Nodes: l.nodes, New: func(c *Cluster, random Random) Fault {
				return &slowLinks{
					Links: l.choose(c, random), Latency: 200 * time.Millisecond, Jitter: time.Duration(random.IntN(150)) * time.Millisecond,
					Kilobytes: 2000,
				}
			}},
			Kind{Name: l.name + " reset", Class: OfLinks, Nodes: l.nodes, New: func(c *Cluster, random Random) Fault {
				return &resetLinks{Links: l.choose(c, random), After: time.Duration(random.IntN(500)) * time.Millisecond}
			}},
		)
	}
	return out
}
