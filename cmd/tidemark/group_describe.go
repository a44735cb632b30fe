package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

type groupDetails struct {
	Group       string            `json:"group"`
	State       string            `json:"state"`
	Coordinator string            `json:"coordinator"`
	Generation  int32             `json:"generation"`
	Protocol    string            `json:"protocol"`
	Strategy    string            `json:"strategy"`
	Lag         *int64            `json:"lag"` // null when it is not known of every partition
	LagSeconds  *float64          `json:"lag_seconds"`
	Members     []groupMemberJSON `json:"members"`
	Partitions  []groupLagJSON    `json:"partitions"`
}

type groupMemberJSON struct {
	ID         string             `json:"id"`
	InstanceID string             `json:"instance_id"`
	ClientID   string             `json:"client_id"`
	Host       string             `json:"host"`
	Assigned   map[string][]int32 `json:"assigned"`
}

type groupLagJSON struct {
	Topic          string   `json:"topic"`
	Partition      int32    `json:"partition"`
	MemberID       string   `json:"member_id"`
	Committed      *int64   `json:"committed"` // null when nothing is
	LogStartOffset int64    `json:"log_start_offset"`
	HighWatermark  int64    `json:"high_watermark"`
	Lag            *int64   `json:"lag"`
	LagSeconds     *float64 `json:"lag_seconds"`
	Metadata       string   `json:"metadata,omitempty"`
}

func newGroupDescribeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe GROUP",
		Short: "Show the members of a group, what each has, and how far behind they are",
		Long: `Show the members of a group, what each has, and how far behind they are.

  committed  the group goes on there; - when it has committed nothing
  end        consumers read below it: the high watermark
  lag        records between the two; - when that is not known
  behind     how long the oldest record that is not committed has been there`,
		Args:              groupArg,
		ValidArgsFunction: onlyFirst(a.completeFrom(a.groupNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			group, err := c.DescribeGroup(cmd.Context(), args[0])
			if err != nil {
				return doing(err, "describe group %q", args[0])
			}
			return a.render(groupView(group))
		},
	}
}

func groupView(g *tidemarkv1.DescribeGroupResponse) view {
	info := groupDetails{
		Group: g.GetGroup(), State: g.GetState(), Coordinator: g.GetCoordinator(), Generation: g.GetGeneration(), Protocol: g.GetProtocolType(),
		Strategy: g.GetStrategy(), Members: []groupMemberJSON{}, Partitions: []groupLagJSON{}, Lag: new(int64), LagSeconds: new(float64),
	}
	members := view{columns: []string{"member", "instance", "client", "host", "assigned"}}
	for _, m := range g.GetMembers() {
		member := groupMemberJSON{ID: m.GetMemberId(), InstanceID: m.GetInstanceId(), ClientID: m.GetClientId(), Host: m.GetHost(), Assigned: map[string][]int32{}}
		var assigned []string
		for _, t := range m.GetAssigned() {
			member.Assigned[t.GetTopic()] = t.GetPartitions()
			assigned = append(assigned, t.GetTopic()+":"+partitionList(t.GetPartitions()))
		}
		info.Members = append(info.Members, member)
		members.rows = append(members.rows, []string{m.GetMemberId(), m.GetInstanceId(), m.GetClientId(), m.GetHost(), strings.Join(assigned, " ")})
	}
	v := view{columns: []string{"topic", "partition", "committed", "end", "lag", "behind", "member"}}
	for _, l := range g.GetLag() {
		lag := groupLagJSON{
			Topic: l.GetTopic(), Partition: l.GetPartition(), MemberID: l.GetMemberId(), Committed: known(l.GetCommitted()), LogStartOffset: l.GetLogStartOffset(),
			HighWatermark: l.GetHighWatermark(), Lag: known(l.GetLag()), LagSeconds: known(l.GetLagSeconds()), Metadata: l.GetMetadata(),
		}
		info.Partitions = append(info.Partitions, lag)
		info.Lag, info.LagSeconds = plus(info.Lag, lag.Lag), most(info.LagSeconds, lag.LagSeconds)
		v.rows = append(v.rows, []string{
			lag.Topic, strconv.Itoa(int(lag.Partition)), numberOr(lag.Committed), strconv.FormatInt(lag.HighWatermark, 10), numberOr(lag.Lag), secondsOr(lag.LagSeconds), lag.MemberID,
		})
	}
	v.json = info
	v.plain = func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "group        %s\nstate        %s\ncoordinator  %s\ngeneration   %d\nstrategy     %s\nlag          %s, %s\n",
			info.Group, info.State, info.Coordinator, info.Generation, orDash(info.Strategy), recordsOr(info.Lag), secondsOr(info.LagSeconds))
		if err != nil {
			return err
		}
		for _, table := range []view{members, v} {
			if len(table.rows) == 0 {
				continue
			}
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
			if err := writeTable(w, table.columns, table.rows); err != nil {
				return err
			}
		}
		return nil
	}
	return v
}

// known is nil for what the server does not know.
func known[N int64 | float64](n N) *N {
	if n < 0 {
		return nil
	}
	return &n
}

func plus(a, b *int64) *int64 {
	if a == nil || b == nil {
		return nil
	}
	sum := *a + *b
	return &sum
}

func most(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	most := max(*a, *b)
	return &most
}

func numberOr(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func recordsOr(n *int64) string {
	if n == nil {
		return "not known"
	}
	if *n == 1 {
		return "1 record"
	}
	return strconv.FormatInt(*n, 10) + " records"
}

func secondsOr(s *float64) string {
	if s == nil {
		return "-"
	}
	d := time.Duration(*s * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
