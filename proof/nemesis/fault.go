package nemesis

import (
	"context"
	"time"
)

// Fault is something that goes wrong. It is injected once and healed once, by one goroutine.
type Fault interface {
	// Name tells what goes wrong and where, as far as that is known before Inject.
	Name() string
	// Inject returns when the fault is in force. When it fails the fault is not in force, and Heal is still called.
	Inject(ctx context.Context) error
	// Heal returns when nothing of the fault is left but what the system needs to recover by itself.
	Heal(ctx context.Context) error
}

// Class is what a fault breaks. Faults of one class are never in force together, so that one does not heal the other.
type Class string

const (
	OfNodes Class = "nodes"
	OfEtcd  Class = "etcd"
	OfStore Class = "store"
	OfLinks Class = "links"
)

// Random draws numbers; *rand.Rand of math/rand/v2 is one.
type Random interface {
	// IntN returns a number in [0, n).
	IntN(n int) int
}

// Kind is a kind of faults.
type Kind struct {
	Name  string
	Class Class
	// Nodes is how many nodes a cluster must have for it to make sense.
	Nodes int
	// Lasts is how long it must last to mean anything; 0 is any time.
	Lasts time.Duration
	// Unfit says why it cannot be had on this cluster; "" when it can.
	Unfit func(c *Cluster) string
	// New draws one of the kind. It draws the same from the same random numbers for clusters of the same size.
	New func(c *Cluster, random Random) Fault
}

// Kinds are all kinds of faults.
func Kinds() []Kind {
	var out []Kind
	out = append(out, nodeKinds()...)
	out = append(out, etcdKinds()...)
	out = append(out, storeKinds()...)
	return append(out, linkKinds()...)
}

// Fitting returns the kinds that can be had on a cluster, and for each other one why not.
func Fitting(c *Cluster, kinds []Kind) (fit []Kind, unfit map[string]string) {
	unfit = make(map[string]string)
	for _, k := range kinds {
		switch {
		case len(c.nodes) < k.Nodes:
			unfit[k.Name] = "needs more nodes"
			continue
		case k.Unfit != nil:
			if why := k.Unfit(c); why != "" {
				unfit[k.Name] = why
				continue
			}
		}
		fit = append(fit, k)
	}
	return fit, unfit
}

func drawNode(c *Cluster, random Random) *Node { return c.nodes[random.IntN(len(c.nodes))] }
