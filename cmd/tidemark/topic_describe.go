package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
)

type partitionJSON struct {
	Partition       int32  `json:"partition"`
	Leader          string `json:"leader"`
	LeaderEpoch     int32  `json:"leader_epoch"`
	LogStartOffset  int64  `json:"log_start_offset"`
	HighWatermark   int64  `json:"high_watermark"`
	CommittedOffset int64  `json:"committed_offset"`
	LogEndOffset    int64  `json:"log_end_offset"`
}

type topicDetails struct {
	topicJSON
	States []partitionJSON `json:"partition_states"`
}

func newTopicDescribeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe TOPIC",
		Short: "Show the settings of a topic, and where each partition begins and ends",
		Long: `Show the settings of a topic, and where each partition begins and ends.

  start      the first offset that can be read
  readable   consumers read below it: the high watermark
  committed  below it all is in the object store
  end        the next offset that will be given`,
		Args: topicArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			topic, partitions, err := c.GetTopic(cmd.Context(), args[0])
			if err != nil {
				return doing(err, "describe topic %q", args[0])
			}
			details := topicDetails{topicJSON: topicInfo(topic), States: []partitionJSON{}}
			v := view{columns: []string{"partition", "leader", "epoch", "start", "readable", "committed", "end"}}
			for _, p := range partitions {
				details.States = append(details.States, partitionJSON{
					Partition: p.GetPartition(), Leader: p.GetLeader(), LeaderEpoch: p.GetLeaderEpoch(), LogStartOffset: p.GetLogStartOffset(),
					HighWatermark: p.GetHighWatermark(), CommittedOffset: p.GetCommittedOffset(), LogEndOffset: p.GetLogEndOffset(),
				})
				number := func(n int64) string { return strconv.FormatInt(n, 10) }
				v.rows = append(v.rows, []string{
					number(int64(p.GetPartition())), p.GetLeader(), number(int64(p.GetLeaderEpoch())), number(p.GetLogStartOffset()),
					number(p.GetHighWatermark()), number(p.GetCommittedOffset()), number(p.GetLogEndOffset()),
				})
			}
			v.json = details
			v.plain = func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "topic       %s\nid          %s\ncreated     %s\npartitions  %d\nsettings    %s\n\n",
					details.Name, details.ID, details.Created, details.Partitions, configText(details.Config))
				if err != nil {
					return err
				}
				return writeTable(w, v.columns, v.rows)
			}
			return a.render(v)
		},
	}
}
