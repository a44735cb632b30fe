package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func newClusterCommand(a *app) *cobra.Command {
	group := &cobra.Command{Use: "cluster", Short: "Look at nodes and leaders, and move leadership"}
	commandGroup(group)
	group.AddCommand(
		newClusterInfoCommand(a),
		newClusterNodesCommand(a),
		newClusterLeadersCommand(a),
		newClusterDrainCommand(a),
		newClusterForgetNodeCommand(a),
		newClusterRecoverCommand(a),
	)
	return group
}

// nodeArg makes a command take exactly one node name.
func nodeArg(cmd *cobra.Command, args []string) error {
	next := "run it as `" + cmd.UseLine() + "`; `tidemark cluster nodes` lists the nodes"
	switch len(args) {
	case 0:
		return usagef(next, "no node given")
	case 1:
		return nil
	}
	return usagef(next, "%d arguments given, one node wanted", len(args))
}

// completeFrom makes a completion of names that the server knows. A server that does not answer completes nothing.
func (a *app) completeFrom(names func(ctx context.Context) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		// Completion does not pass through PersistentPreRunE, which would have looked at the environment.
		if err := a.settings.apply(a, cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completePatience)
		defer cancel()
		all, err := names(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, name := range all {
			if strings.HasPrefix(name, begun) {
				out = append(out, name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// onlyFirst completes the first argument and nothing behind it.
func onlyFirst(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, begun)
	}
}

func (a *app) nodeNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	cluster, err := c.GetCluster(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(cluster.GetNodes()))
	for _, n := range cluster.GetNodes() {
		names = append(names, n.GetId())
	}
	return names, nil
}

func (a *app) topicNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	topics, err := c.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(topics))
	for _, t := range topics {
		names = append(names, t.GetName())
	}
	return names, nil
}

type clusterJSON struct {
	ID         string     `json:"id"`
	Generation int64      `json:"generation"`
	Controller string     `json:"controller"`
	Revision   int64      `json:"revision"`
	Topics     int32      `json:"topics"`
	Partitions int32      `json:"partitions"`
	Leaderless int32      `json:"leaderless"`
	Nodes      []nodeJSON `json:"nodes"`
}

func newClusterInfoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "info",
		Short: "Show the cluster as a whole, and what of it needs somebody",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			cluster, err := c.GetCluster(cmd.Context())
			if err != nil {
				return doing(err, "describe the cluster")
			}
			return a.render(clusterView(cluster))
		},
	}
}

func clusterView(c *tidemarkv1.GetClusterResponse) view {
	info := clusterJSON{
		ID: c.GetId(), Generation: c.GetGeneration(), Controller: c.GetController(), Revision: c.GetRevision(),
		Topics: c.GetTopics(), Partitions: c.GetPartitions(), Leaderless: c.GetLeaderless(), Nodes: nodeInfos(c.GetNodes()),
	}
	alive := 0
	for _, n := range info.Nodes {
		if n.Alive {
			alive++
		}
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	v := view{
		columns: []string{"id", "generation", "controller", "nodes", "alive", "topics", "partitions", "leaderless", "revision"},
		rows: [][]string{{
			info.ID, number(info.Generation), info.Controller, strconv.Itoa(len(info.Nodes)), strconv.Itoa(alive),
			number(int64(info.Topics)), number(int64(info.Partitions)), number(int64(info.Leaderless)), number(info.Revision),
		}},
		json: info,
	}
	v.plain = func(w io.Writer) error {
		controller := info.Controller
		if controller == "" {
			controller = "none is elected at the moment"
		}
		_, err := fmt.Fprintf(w, "cluster     %s\ngeneration  %d\ncontroller  %s\nnodes       %d, %d alive\ntopics      %d\npartitions  %d, %d without a leader\nrevision    %d\n",
			info.ID, info.Generation, controller, len(info.Nodes), alive, info.Topics, info.Partitions, info.Leaderless, info.Revision)
		for _, n := range info.Nodes {
			if n.Attention != "" && err == nil {
				_, err = fmt.Fprintf(w, "\nnode %s: %s\n", n.ID, n.Attention)
			}
		}
		return err
	}
	return v
}

type nodeJSON struct {
	ID             string   `json:"id"`
	Alive          bool     `json:"alive"`
	State          string   `json:"state"`
	Controller     bool     `json:"controller"`
	Partitions     int32    `json:"partitions"`
	DiskPartitions int32    `json:"disk_partitions"`
	HTTP           string   `json:"http"`
	Zone           string   `json:"zone"`
	Roles          []string `json:"roles"`
	Version        string   `json:"version"`
	Incarnation    string   `json:"incarnation"`
	Attention      string   `json:"attention"`
}

func nodeInfos(nodes []*tidemarkv1.Node) []nodeJSON {
	out := make([]nodeJSON, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, nodeJSON{
			ID: n.GetId(), Alive: n.GetAlive(), State: nodeState(n), Controller: n.GetController(), Partitions: n.GetPartitions(),
			DiskPartitions: n.GetDiskPartitions(), HTTP: n.GetHttp(), Zone: n.GetZone(), Roles: append([]string{}, n.GetRoles()...),
			Version: n.GetVersion(), Incarnation: n.GetIncarnation(), Attention: n.GetAttention(),
		})
	}
	return out
}

// nodeState is one word for people.
func nodeState(n *tidemarkv1.Node) string {
	switch {
	case !n.GetAlive():
		return "away"
	case n.GetStopping():
		return "stopping"
	case n.GetDraining() && n.GetPartitions() > 0:
		return "draining"
	case n.GetDraining():
		return "drained"
	}
	return "ready"
}

func newClusterNodesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes, alive or not",
		Long: `List the nodes that are alive, and those that are not and still are assigned something.

  state       ready; draining or drained by ` + "`tidemark cluster drain`" + `; stopping by itself;
              away: it holds no lease, so that it has stopped, or cannot reach etcd
  partitions  how many it leads, or is to lead
  on disk     those of them on topics with durability=disk
  *           the controller, which assigns partitions`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			cluster, err := c.GetCluster(cmd.Context())
			if err != nil {
				return doing(err, "list the nodes")
			}
			return a.render(nodesView(cluster.GetNodes()))
		},
	}
}

func nodesView(nodes []*tidemarkv1.Node) view {
	infos := nodeInfos(nodes)
	v := view{columns: []string{"node", "state", "controller", "partitions", "on_disk", "http", "zone", "version", "attention"}, json: infos}
	for _, n := range infos {
		controller := ""
		if n.Controller {
			controller = "*"
		}
		v.rows = append(v.rows, []string{
			n.ID, n.State, controller, strconv.Itoa(int(n.Partitions)), strconv.Itoa(int(n.DiskPartitions)), n.HTTP, n.Zone, n.Version, n.Attention,
		})
	}
	return v
}

type leaderJSON struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Node      string `json:"node"`
	Epoch     int32  `json:"epoch"`
	Alive     bool   `json:"alive"`
	WaitsFor  string `json:"waits_for"`
}

func newClusterLeadersCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "leaders [TOPIC]...",
		Short:             "Show who leads which partition, and why nobody does where nobody does",
		ValidArgsFunction: a.completeFrom(a.topicNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			leaders, err := c.ListLeaders(cmd.Context(), args...)
			if err != nil {
				return doing(err, "list the leaders")
			}
			v := view{columns: []string{"topic", "partition", "node", "epoch", "alive", "waits_for"}}
			infos := make([]leaderJSON, 0, len(leaders))
			for _, l := range leaders {
				infos = append(infos, leaderJSON{
					Topic: l.GetTopic(), Partition: l.GetPartition(), Node: l.GetNode(), Epoch: l.GetEpoch(), Alive: l.GetAlive(), WaitsFor: l.GetWaitsFor(),
				})
				v.rows = append(v.rows, []string{
					l.GetTopic(), strconv.Itoa(int(l.GetPartition())), l.GetNode(), strconv.Itoa(int(l.GetEpoch())), yesNo(l.GetAlive()), l.GetWaitsFor(),
				})
			}
			v.json = infos
			return a.render(v)
		},
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
