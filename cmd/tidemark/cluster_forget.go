package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

type forgetJSON struct {
	Node   string          `json:"node"`
	DryRun bool            `json:"dry_run"`
	Moved  int32           `json:"moved"`
	Lost   []lostRangeJSON `json:"lost"`
}

type lostRangeJSON struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
}

func newClusterForgetNodeCommand(a *app) *cobra.Command {
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:   "forget-node NODE",
		Short: "Give up a node that will not come back, and what only its disk had",
		Long: `Give up a node that is not alive and will not come back. Others take over what it led.

Topics with durability=object lose nothing. On topics with durability=disk, what the node had
acknowledged and not yet flushed is lost; it is named first, as a range of offsets for each partition:
from where all before is in the object store, to where the log goes on. Readers skip that range and
report it, and no offset is ever used again. The flush comes within seconds, so few of the
offsets of a range were ever given to a record.

On a terminal the command asks for the node's name before it does anything. A script gives --yes.`,
		Example: `  tidemark cluster forget-node node-1 --dry-run
  tidemark cluster forget-node node-1`,
		Args:              nodeArg,
		ValidArgsFunction: onlyFirst(a.completeFrom(a.nodeNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			node := args[0]
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			plan, err := c.ForgetNode(cmd.Context(), node, true)
			if err != nil {
				return doing(err, "forget node %q", node)
			}
			if dryRun {
				return a.renderForgotten(node, plan, true)
			}
			if !yes {
				if err := a.confirmForget(node, plan); err != nil {
					return err
				}
			}
			done, err := c.ForgetNode(cmd.Context(), node, false)
			if err != nil {
				return doing(err, "forget node %q", node)
			}
			return a.renderForgotten(node, done, false)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only name what would move and what would be lost")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirmForget names what is lost and asks for the node's name.
func (a *app) confirmForget(node string, plan *tidemarkv1.ForgetNodeResponse) error {
	if !a.stdinTTY || !a.stderrTTY {
		return usagef("look with --dry-run at what would be lost, then give --yes",
			"forget node %q: nobody can be asked here, and %s would lose what was not flushed", node, partitionCount(int32(len(plan.GetLost()))))
	}
	if err := writeForgotten(a.stderr, node, plan, true); err != nil {
		return err
	}
	a.tellf("\nType the node's name to give it up: ")
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if strings.TrimSpace(answer) != node {
		if err != nil {
			a.tellf("\n")
		}
		return fail(exitFailed, "", "forget node %q: not confirmed", node)
	}
	return nil
}

func (a *app) renderForgotten(node string, r *tidemarkv1.ForgetNodeResponse, dryRun bool) error {
	info := forgetJSON{Node: node, DryRun: dryRun, Moved: r.GetMoved(), Lost: []lostRangeJSON{}}
	v := view{columns: []string{"topic", "partition", "lost_from", "goes_on_at"}, rows: lostRows(r)}
	for _, l := range r.GetLost() {
		info.Lost = append(info.Lost, lostRangeJSON{Topic: l.GetTopic(), Partition: l.GetPartition(), From: l.GetFrom(), To: l.GetTo()})
	}
	v.json = info
	v.plain = func(w io.Writer) error { return writeForgotten(w, node, r, dryRun) }
	return a.render(v)
}

func lostRows(r *tidemarkv1.ForgetNodeResponse) [][]string {
	rows := make([][]string, 0, len(r.GetLost()))
	for _, l := range r.GetLost() {
		rows = append(rows, []string{l.GetTopic(), strconv.Itoa(int(l.GetPartition())), strconv.FormatInt(l.GetFrom(), 10), strconv.FormatInt(l.GetTo(), 10)})
	}
	return rows
}

// writeForgotten tells people what moves and what is lost.
func writeForgotten(w io.Writer, node string, r *tidemarkv1.ForgetNodeResponse, asPlan bool) error {
	is, loses := "is forgotten", "lost what was not flushed"
	if asPlan {
		is, loses = "would be forgotten", "would lose what was not flushed"
	}
	if _, err := fmt.Fprintf(w, "node %s %s: %s go to others as they are, %s\n",
		node, is, partitionCount(r.GetMoved()), partitionCount(int32(len(r.GetLost())))+" "+loses); err != nil {
		return err
	}
	if len(r.GetLost()) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return writeTable(w, []string{"topic", "partition", "lost_from", "goes_on_at"}, lostRows(r))
}
