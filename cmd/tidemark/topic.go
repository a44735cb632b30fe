package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

const topicConfigHelp = `Settings of a topic (-c key=value):
  durability         object (default): acknowledged when in the object store
                     disk: acknowledged when synced on the node's disk
  max.message.bytes  greatest batch, 1024 to 8388608 (default 1048588)`

func newTopicCommand(a *app) *cobra.Command {
	group := &cobra.Command{Use: "topic", Aliases: []string{"topics"}, Short: "Create, look at, change and delete topics"}
	commandGroup(group)
	group.AddCommand(
		newTopicCreateCommand(a),
		newTopicListCommand(a),
		newTopicDescribeCommand(a),
		newTopicAlterCommand(a),
		newTopicAddPartitionsCommand(a),
		newTopicDeleteCommand(a),
	)
	return group
}

// topicArg makes a command take exactly one topic name.
func topicArg(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	next := "run it as `" + cmd.UseLine() + "`"
	if len(args) == 0 {
		return usagef(next, "no topic given")
	}
	return usagef(next, "%d arguments given, one topic wanted", len(args))
}

func newTopicCreateCommand(a *app) *cobra.Command {
	var (
		partitions  int32
		config      []string
		ifNotExists bool
	)
	cmd := &cobra.Command{
		Use:   "create TOPIC",
		Short: "Create a topic",
		Long:  "Create a topic.\n\n" + topicConfigHelp,
		Args:  topicArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parsePairs(config, "-c")
			if err != nil {
				return err
			}
			// 0 on the wire is the server's default; who types it has something else in mind.
			if partitions < 1 {
				return usagef("use --partitions 1 or more", "create topic %q: %d partitions", args[0], partitions)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			topic, created, err := c.CreateTopic(cmd.Context(), args[0], partitions, settings, ifNotExists)
			if err != nil {
				return doing(err, "create topic %q", args[0])
			}
			verb := "created"
			if !created {
				verb = "exists"
			}
			return a.renderTopic(topic, verb)
		},
	}
	cmd.Flags().Int32Var(&partitions, "partitions", 1, "`N`umber of partitions, 1 to 10000")
	cmd.Flags().StringArrayVarP(&config, "config-entry", "c", nil, "a setting as `key=value`; may be repeated")
	cmd.Flags().BoolVar(&ifNotExists, "if-not-exists", false, "leave a topic of this name as it is")
	return cmd
}

func newTopicListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the topics",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := view{columns: []string{"topic", "partitions", "durability", "created"}}
			infos := []topicJSON{}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			topics, err := c.ListTopics(cmd.Context())
			if err != nil {
				return doing(err, "list topics")
			}
			for _, t := range topics {
				info := topicInfo(t)
				infos = append(infos, info)
				v.rows = append(v.rows, []string{info.Name, fmt.Sprint(info.Partitions), info.Config["durability"], info.Created})
			}
			v.json = infos
			return a.render(v)
		},
	}
}

func newTopicAlterCommand(a *app) *cobra.Command {
	var config []string
	cmd := &cobra.Command{
		Use:   "alter TOPIC -c key=value",
		Short: "Change settings of a topic; those that are not named stay",
		Long:  "Change settings of a topic; those that are not named stay.\n\n" + topicConfigHelp,
		Args:  topicArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parsePairs(config, "-c")
			if err != nil {
				return err
			}
			if len(settings) == 0 {
				return usagef("name it as -c key=value", "alter topic %q: no setting given", args[0])
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			topic, err := c.UpdateTopic(cmd.Context(), args[0], settings)
			if err != nil {
				return doing(err, "alter topic %q", args[0])
			}
			return a.renderTopic(topic, "altered")
		},
	}
	cmd.Flags().StringArrayVarP(&config, "config-entry", "c", nil, "a setting as `key=value`; may be repeated")
	return cmd
}

func newTopicAddPartitionsCommand(a *app) *cobra.Command {
	var partitions int32
	cmd := &cobra.Command{
		Use:   "add-partitions TOPIC --partitions N",
		Short: "Give a topic more partitions; new records of a key may then go to another one",
		Args:  topicArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if partitions < 1 {
				return usagef("--partitions is the new total", "add partitions to topic %q: no new total given", args[0])
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			topic, err := c.AddPartitions(cmd.Context(), args[0], partitions)
			if err != nil {
				return doing(err, "add partitions to topic %q", args[0])
			}
			return a.renderTopic(topic, "altered")
		},
	}
	cmd.Flags().Int32Var(&partitions, "partitions", 0, "the new total `N`, above the present one")
	return cmd
}

func newTopicDeleteCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete TOPIC",
		Aliases: []string{"rm"},
		Short:   "Delete a topic with all its records",
		Long: `Delete a topic with all its records. On a terminal it asks first, unless --yes is
given; a script is not asked.`,
		Args: topicArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.stdinTTY && a.stderrTTY && !yes {
				ok, err := a.confirm(fmt.Sprintf("Delete topic %q and all its records?", args[0]))
				if err != nil || !ok {
					return fail(exitFailed, "", "delete topic %q: not confirmed", args[0])
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.DeleteTopic(cmd.Context(), args[0]); err != nil {
				return doing(err, "delete topic %q", args[0])
			}
			return a.render(view{
				columns: []string{"topic", "result"},
				rows:    [][]string{{args[0], "deleted"}},
				json:    map[string]string{"name": args[0], "result": "deleted"},
				plain:   func(w io.Writer) error { _, err := fmt.Fprintf(w, "topic %s deleted\n", args[0]); return err },
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirm asks on the terminal. Anything but a yes is a no.
func (a *app) confirm(question string) (bool, error) {
	if _, err := fmt.Fprintf(a.stderr, "%s [y/N] ", question); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", err
}

// topicJSON is a topic as -o json prints it.
type topicJSON struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Partitions int32             `json:"partitions"`
	Config     map[string]string `json:"config"`
	Created    string            `json:"created"`
	Result     string            `json:"result,omitempty"` // created, exists or altered
}

func topicInfo(t *tidemarkv1.Topic) topicJSON {
	return topicJSON{
		Name: t.GetName(), ID: t.GetId(), Partitions: t.GetPartitions(), Config: t.GetConfig(),
		Created: t.GetCreated().AsTime().Format(time.RFC3339),
	}
}

func (a *app) renderTopic(t *tidemarkv1.Topic, result string) error {
	info := topicInfo(t)
	info.Result = result
	return a.render(view{
		columns: []string{"topic", "partitions", "durability", "created", "result"},
		rows:    [][]string{{info.Name, fmt.Sprint(info.Partitions), info.Config["durability"], info.Created, result}},
		json:    info,
		plain: func(w io.Writer) error {
			noun := "partitions"
			if info.Partitions == 1 {
				noun = "partition"
			}
			_, err := fmt.Fprintf(w, "topic %s %s: %d %s, %s\n", info.Name, result, info.Partitions, noun, configText(info.Config))
			return err
		},
	})
}

func configText(config map[string]string) string {
	var parts []string
	for _, key := range sortedKeys(config) {
		parts = append(parts, key+"="+config[key])
	}
	return strings.Join(parts, " ")
}

// parsePairs reads key=value arguments of a flag. A key that is given twice is refused: one of them was meant otherwise.
func parsePairs(pairs []string, flag string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef(fmt.Sprintf("write it as %s key=value", flag), "%s %q has no key", flag, pair)
		}
		if _, twice := m[key]; twice {
			return nil, usagef("give each key once", "%s %s is given twice", flag, key)
		}
		m[key] = value
	}
	return m, nil
}
