package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func newGroupCommand(a *app) *cobra.Command {
	group := &cobra.Command{Use: "group", Aliases: []string{"groups"}, Short: "Look at consumer groups, set where they go on, and delete them"}
	commandGroup(group)
	group.AddCommand(
		newGroupListCommand(a),
		newGroupDescribeCommand(a),
		newGroupSeekCommand(a),
		newGroupDeleteCommand(a),
	)
	return group
}

// groupArg makes a command take exactly one group.
func groupArg(cmd *cobra.Command, args []string) error {
	next := "run it as `" + cmd.UseLine() + "`; `tidemark group list` lists the groups"
	switch len(args) {
	case 0:
		return usagef(next, "no group given")
	case 1:
		return nil
	}
	return usagef(next, "%d arguments given, one group wanted", len(args))
}

func (a *app) groupNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	groups, err := c.ListGroups(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(groups))
	for _, g := range groups {
		names = append(names, g.GetGroup())
	}
	return names, nil
}

type groupJSON struct {
	Group       string `json:"group"`
	State       string `json:"state"`
	Members     int32  `json:"members"`
	Coordinator string `json:"coordinator"`
	Protocol    string `json:"protocol"`
}

func newGroupListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the consumer groups",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			groups, err := c.ListGroups(cmd.Context())
			if err != nil {
				return doing(err, "list the groups")
			}
			v := view{columns: []string{"group", "state", "members", "coordinator", "protocol"}}
			infos := make([]groupJSON, 0, len(groups))
			for _, g := range groups {
				infos = append(infos, groupJSON{
					Group: g.GetGroup(), State: g.GetState(), Members: g.GetMembers(), Coordinator: g.GetCoordinator(), Protocol: g.GetProtocolType(),
				})
				state := g.GetState()
				if state == "" {
					state = "unknown" // its coordinator did not answer
				}
				v.rows = append(v.rows, []string{g.GetGroup(), state, strconv.Itoa(int(g.GetMembers())), g.GetCoordinator(), g.GetProtocolType()})
			}
			v.json = infos
			return a.render(v)
		},
	}
}

func newGroupSeekCommand(a *app) *cobra.Command {
	var (
		topic, to  string
		partitions []int32
	)
	cmd := &cobra.Command{
		Use:   "seek GROUP --topic TOPIC --to start|end|OFFSET|TIME",
		Short: "Set where a group goes on; it may have no members meanwhile",
		Example: `  tidemark group seek billing --topic orders --to start
  tidemark group seek billing --topic orders --to 2026-11-24T00:00:00Z
  tidemark group seek billing --topic orders --partition 3 --to 1042`,
		Args:              groupArg,
		ValidArgsFunction: onlyFirst(a.completeFrom(a.groupNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			seek, err := groupSeek(topic, partitions, to)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			offsets, err := c.SeekGroup(cmd.Context(), args[0], seek)
			if err != nil {
				return doing(err, "seek group %q", args[0])
			}
			return a.renderSought(args[0], offsets)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&topic, "topic", "", "the `TOPIC` (needed)")
	flags.Int32SliceVarP(&partitions, "partition", "p", nil, "only partition `P`; may be repeated")
	flags.StringVar(&to, "to", "", "start, end, an `OFFSET` or a time as 2006-01-02T15:04:05Z (needed)")
	_ = cmd.RegisterFlagCompletionFunc("topic", a.completeFrom(a.topicNames)) // it fails only for a flag that is not there
	return cmd
}

// groupSeek reads the flags of seek.
func groupSeek(topic string, partitions []int32, to string) (*tidemarkv1.GroupSeek, error) {
	if topic == "" {
		return nil, usagef("name it with --topic", "no topic given")
	}
	for _, p := range partitions {
		if p < 0 {
			return nil, usagef("partitions count from 0", "--partition %d is no partition", p)
		}
	}
	if to == "" {
		return nil, usagef("use --to start, end, an offset such as 42, or a time such as 2006-01-02T15:04:05Z", "nowhere to go to was given")
	}
	at, err := parsePlace("--to", to)
	if err != nil {
		return nil, err
	}
	seek := &tidemarkv1.GroupSeek{Topic: topic, Partitions: partitions}
	switch {
	case at.start:
		seek.To = &tidemarkv1.GroupSeek_Start{Start: true}
	case at.end:
		seek.To = &tidemarkv1.GroupSeek_End{End: true}
	case at.offset >= 0:
		seek.To = &tidemarkv1.GroupSeek_Offset{Offset: at.offset}
	default:
		seek.To = &tidemarkv1.GroupSeek_TimestampMs{TimestampMs: at.timestampMs}
	}
	return seek, nil
}

type soughtJSON struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (a *app) renderSought(group string, offsets []*tidemarkv1.CommittedOffset) error {
	v := view{columns: []string{"topic", "partition", "offset"}}
	infos := make([]soughtJSON, 0, len(offsets))
	for _, o := range offsets {
		infos = append(infos, soughtJSON{Topic: o.GetTopic(), Partition: o.GetPartition(), Offset: o.GetOffset()})
		v.rows = append(v.rows, []string{o.GetTopic(), strconv.Itoa(int(o.GetPartition())), strconv.FormatInt(o.GetOffset(), 10)})
	}
	v.json = struct {
		Group   string       `json:"group"`
		Offsets []soughtJSON `json:"offsets"`
	}{group, infos}
	return a.render(v)
}

func newGroupDeleteCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete GROUP",
		Aliases: []string{"rm"},
		Short:   "Forget a group without members, with its offsets",
		Long: `Forget a group without members, with its offsets: whoever joins it next begins anew. On a
terminal it asks first, unless --yes is given; a script is not asked.`,
		Args:              groupArg,
		ValidArgsFunction: onlyFirst(a.completeFrom(a.groupNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.stdinTTY && a.stderrTTY && !yes {
				ok, err := a.confirm(fmt.Sprintf("Delete group %q and its offsets?", args[0]))
				if err != nil || !ok {
					return fail(exitFailed, "", "delete group %q: not confirmed", args[0])
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.DeleteGroup(cmd.Context(), args[0]); err != nil {
				return doing(err, "delete group %q", args[0])
			}
			return a.render(view{
				columns: []string{"group", "result"},
				rows:    [][]string{{args[0], "deleted"}},
				json:    map[string]string{"group": args[0], "result": "deleted"},
				plain:   func(w io.Writer) error { _, err := fmt.Fprintf(w, "group %s deleted\n", args[0]); return err },
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// place is where reading begins. Exactly one counts: start and end first, then offset unless it is negative, then timestampMs.
type place struct {
	start, end  bool
	offset      int64
	timestampMs int64
}

// parsePlace reads start, end, an offset or a time.
func parsePlace(flag, text string) (place, error) {
	switch text {
	case "start":
		return place{start: true, offset: -1}, nil
	case "end":
		return place{end: true, offset: -1}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return place{offset: n}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return place{}, usagef("use start, end, an offset such as 42, or a time such as 2006-01-02T15:04:05Z", "%s %q is no place to begin", flag, text)
	}
	return place{offset: -1, timestampMs: t.UnixMilli()}, nil
}

// partitionList writes partitions as 0,1,2.
func partitionList(partitions []int32) string {
	texts := make([]string, len(partitions))
	for i, p := range partitions {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}
