package nemesis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/record"
)

// killNode ends a node as a crash would (kill -9), and starts it again to heal.
type killNode struct{ Node *Node }

func (f *killNode) Name() string { return "kill -9 " + f.Node.id }

func (f *killNode) Inject(context.Context) error { f.Node.Kill(); return nil }

func (f *killNode) Heal(context.Context) error { return f.Node.Launch() }

// pauseNode stops a node without its noticing, for longer than its lease when the schedule obeys Kind.Lasts: it wakes up and
// believes that it still leads.
type pauseNode struct{ Node *Node }

func (f *pauseNode) Name() string { return "pause " + f.Node.id }

func (f *pauseNode) Inject(context.Context) error { return f.Node.Pause() }

func (f *pauseNode) Heal(context.Context) error { return f.Node.Resume() }

// killLeader kills the node that leads most partitions at that moment; of several, not the one that Before killed, if it can.
type killLeader struct {
	Cluster *Cluster
	Before  *killLeader // nil for none
	killed  *Node
	at      time.Time // when it was killed
}

func (f *killLeader) Name() string {
	if f.killed != nil {
		return "kill -9 " + f.killed.id + ", which leads most"
	}
	return "kill -9 the leader of most partitions"
}

func (f *killLeader) Inject(ctx context.Context) error {
	leaders, err := f.Cluster.Leaders(ctx)
	if err != nil {
		return err
	}
	var not *Node
	if f.Before != nil {
		not = f.Before.killed
	}
	if f.killed = leadsMost(f.Cluster.nodes, leaders, not); f.killed == nil {
		return errors.New("nobody leads anything")
	}
	f.at = clock.System().Now()
	f.killed.Kill()
	return nil
}

// leadsMost is the node that leads most; of several the first, but not the one named if another will do; nil when nobody leads anything.
func leadsMost(nodes []*Node, leaders map[string]int, not *Node) *Node {
	var out *Node
	most := 0
	for _, n := range nodes {
		if count := leaders[n.id]; count > most || count == most && out != nil && out == not {
			most, out = count, n
		}
	}
	return out
}

func (f *killLeader) Heal(context.Context) error {
	if f.killed == nil {
		return nil
	}
	return f.killed.Launch()
}

// rollingRestart ends all nodes one after the other in good order (SIGTERM), each when the one before is ready again. It goes on
// beside the caller; Heal waits for its end.
type rollingRestart struct {
	Cluster *Cluster
	work    sync.WaitGroup
	err     error
}

func (f *rollingRestart) Name() string { return "restart all nodes one by one" }

func (f *rollingRestart) Inject(ctx context.Context) error {
	f.work.Go(func() {
		for _, n := range f.Cluster.nodes {
			// A node that does not end in time is killed, and must work again all the same; its Stop says so in the end.
			f.err = errors.Join(f.err, n.Stop(ctx), n.Start(ctx))
		}
	})
	return nil
}

func (f *rollingRestart) Heal(context.Context) error { f.work.Wait(); return f.err }

// drainNode moves everything off a node in good order, and ends it. Heal starts it again.
type drainNode struct{ Node *Node }

// drainPatience is how long a node may take to be drained while something else is broken too. After that it goes on as it was.
const drainPatience = 20 * time.Second

func (f *drainNode) Name() string { return "drain " + f.Node.id }

func (f *drainNode) Inject(ctx context.Context) error {
	drained, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	if err := f.Node.Drain(drained); err != nil {
		return err
	}
	return f.Node.Stop(ctx)
}

func (f *drainNode) Heal(ctx context.Context) error {
	if !f.Node.Running() { // draining may have failed
		if err := f.Node.Launch(); err != nil {
			return err
		}
	}
	return f.Node.Undrain(ctx)
}

// fillDisk takes all the room of the disk that a node has its data on, and produces large records to a topic of its own, so that
// the node soon needs another file for its log.
type fillDisk struct {
	Cluster *Cluster
	cancel  context.CancelFunc
	work    sync.WaitGroup
}

// ballastTopic gets what fillDisk produces; nobody reads it.
const ballastTopic = "ballast"

func (f *fillDisk) node() *Node { return f.Cluster.nodes[f.Cluster.small.node] }

func (f *fillDisk) Name() string { return "fill the disk of " + f.node().id }

func (f *fillDisk) Inject(ctx context.Context) error {
	if err := f.Cluster.small.fill(); err != nil {
		return err
	}
	ctx, f.cancel = context.WithCancel(ctx)
	c, err := f.Cluster.NewClusterClient(f.node())
	if err != nil {
		return err
	}
	f.work.Go(func() {
		defer c.Close()
		f.produce(ctx, c)
	})
	return nil
}

// produce goes on until ctx ends. Its failures are what the fault is for.
func (f *fillDisk) produce(ctx context.Context, c *client.Client) {
	if _, _, err := c.CreateTopic(ctx, ballastTopic, int32(len(f.Cluster.nodes)), nil, true); err != nil {
		return
	}
	p, err := c.NewProducer(client.ProducerConfig{DeliveryTimeout: time.Minute})
	if err != nil {
		return
	}
	value := make([]byte, 64<<10)
	for n := int32(0); ctx.Err() == nil; n++ {
		if err := p.ProduceTo(ctx, ballastTopic, n%int32(len(f.Cluster.nodes)), record.Record{Value: value}, nil); err != nil {
			break
		}
		wait(ctx, 5*time.Millisecond) // about 12 MB/s
	}
	_ = p.Close(ctx) // which has ended: what is left is given up
}

func (f *fillDisk) Heal(context.Context) error {
	if f.cancel != nil {
		f.cancel()
	}
	f.work.Wait()
	return f.Cluster.small.free()
}

func nodeKinds() []Kind {
	return []Kind{
		{Name: "node killed", Class: OfNodes, Nodes: 1, New: func(c *Cluster, random Random) Fault {
			return &killNode{Node: drawNode(c, random)}
		}},
		{Name: "node paused", Class: OfNodes, Nodes: 1, Lasts: LeaseTTL + 3*time.Second, New: func(c *Cluster, random Random) Fault {
			return &pauseNode{Node: drawNode(c, random)}
		}},
		{Name: "leader killed", Class: OfNodes, Nodes: 2, New: func(c *Cluster, _ Random) Fault {
			return &killLeader{Cluster: c}
		}},
		{Name: "rolling restart", Class: OfNodes, Nodes: 1, New: func(c *Cluster, _ Random) Fault {
			return &rollingRestart{Cluster: c}
		}},
		{Name: "node drained", Class: OfNodes, Nodes: 2, New: func(c *Cluster, random Random) Fault {
			return &drainNode{Node: drawNode(c, random)}
		}},
		{Name: "disk full", Class: OfNodes, Nodes: 1, Lasts: 10 * time.Second, Unfit: func(c *Cluster) string {
			switch {
			case c.small != nil:
				return ""
			case c.NoSmallDisk != nil:
				return c.NoSmallDisk.Error()
			default:
				return "no node has a small disk"
			}
		}, New: func(c *Cluster, _ Random) Fault {
			return &fillDisk{Cluster: c}
		}},
	}
}
