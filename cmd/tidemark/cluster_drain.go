package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

const (
	// completePatience bounds what a shell waits for the names of a completion.
	completePatience = 2 * time.Second
	// drainLook is how often a drain looks how far it is.
	drainLook = 250 * time.Millisecond
	// drainSilence is how long it puts up with answers that fail: nodes are restarted while one drains.
	drainSilence = 30 * time.Second
)

type drainJSON struct {
	Node       string `json:"node"`
	Result     string `json:"result"` // drained, draining or cancelled
	Partitions int32  `json:"partitions"`
}

func newClusterDrainCommand(a *app) *cobra.Command {
	var cancel, wait bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything that a node leads to the others",
		Long: `Move everything that a node leads to the others, and give it nothing new, so that it can be
stopped for long, or for good. Nothing is lost and no record waits for longer than a moment.

The mark stays, also when the node is started again, until --cancel takes it away. It
returns when nothing is left on the node; to restart a node in a minute no drain is needed, for
a node that stops in order hands over by itself.`,
		Example: `  tidemark cluster drain node-1
  tidemark cluster drain node-1 --wait=false
  tidemark cluster drain node-1 --cancel`,
		Args:              nodeArg,
		ValidArgsFunction: onlyFirst(a.completeFrom(a.nodeNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			result, err := a.drain(cmd.Context(), c, args[0], cancel, wait)
			if err != nil {
				return err
			}
			return a.renderDrain(result)
		},
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "let the node lead again")
	cmd.Flags().BoolVar(&wait, "wait", true, "return when nothing is left on the node")
	return cmd
}

func (a *app) renderDrain(r drainJSON) error {
	return a.render(view{
		columns: []string{"node", "result", "partitions"},
		rows:    [][]string{{r.Node, r.Result, fmt.Sprint(r.Partitions)}},
		json:    r,
		plain: func(w io.Writer) error {
			var err error
			switch r.Result {
			case "drained":
				_, err = fmt.Fprintf(w, "node %s is drained: nothing is left on it\n", r.Node)
			case "draining":
				_, err = fmt.Fprintf(w, "node %s is being drained: %s left\n", r.Node, partitionCount(r.Partitions))
			default:
				_, err = fmt.Fprintf(w, "node %s may lead again\n", r.Node)
			}
			return err
		},
	})
}

// partitionCount is a number with its noun.
func partitionCount(n int32) string {
	if n == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", n)
}

func (a *app) drain(ctx context.Context, c *client.Client, node string, cancel, wait bool) (drainJSON, error) {
	left, err := c.DrainNode(ctx, node, cancel)
	if err != nil {
		return drainJSON{}, doing(err, "drain node %q", node)
	}
	if cancel {
		return drainJSON{Node: node, Result: "cancelled", Partitions: left}, nil
	}
	if !wait {
		return drainJSON{Node: node, Result: "draining", Partitions: left}, nil
	}
	var shown atomic.Int32
	shown.Store(left)
	end := a.progress(func() string {
		return fmt.Sprintf("draining node %s: %s left", node, partitionCount(shown.Load()))
	})
	defer end()
	heard, marked := a.clock.Now(), false
	for {
		cluster, err := c.GetCluster(ctx)
		switch {
		case err == nil:
			heard = a.clock.Now()
			n := nodeOf(cluster, node)
			shown.Store(n.GetPartitions())
			marked = marked || n.GetDraining() // the node that answers may be behind the one that drained
			if done, err := drained(node, n, marked); done || err != nil {
				return drainJSON{Node: node, Result: "drained"}, err
			}
		case ctx.Err() == nil && a.clock.Now().Sub(heard) > drainSilence:
			return drainJSON{}, doing(err, "see how far the drain of node %q is", node)
		}
		timer := a.clock.NewTimer(drainLook)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return drainJSON{}, fail(exitInterrupted, "it goes on by itself; end it with `tidemark cluster drain "+node+" --cancel`",
				"node %s is still being drained: %s left", node, partitionCount(shown.Load()))
		}
	}
}

// nodeOf finds a node in the cluster; nil when it is not alive and leads nothing.
func nodeOf(cluster *tidemarkv1.GetClusterResponse, id string) *tidemarkv1.Node {
	for _, n := range cluster.GetNodes() {
		if n.GetId() == id {
			return n
		}
	}
	return nil
}

// drained tells whether nothing is left on a node; an error says why waiting does not help. marked: it was seen to be drained.
func drained(id string, n *tidemarkv1.Node, marked bool) (bool, error) {
	switch {
	case n.GetPartitions() == 0:
		return true, nil
	case n.GetAttention() != "":
		return false, fail(exitFailed, "`tidemark cluster nodes` shows when that is over; the drain goes on by itself then", "drain node %q: %s", id, n.GetAttention())
	case marked && n.GetAlive() && !n.GetDraining():
		return false, fail(exitFailed, "run it again to go on", "drain node %q: somebody has cancelled it, and %s left", id, partitionCount(n.GetPartitions()))
	}
	return false, nil
}
