package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

type settingInfo struct {
	Setting string `json:"setting"`
	Value   string `json:"value"`
	Origin  string `json:"origin"`
}

func newConfigCommand(a *app) *cobra.Command {
	group := &cobra.Command{Use: "config", Short: "Look at the settings in force"}
	commandGroup(group)
	var origin bool
	printCommand := &cobra.Command{
		Use:   "print",
		Short: "Print every setting with its value and where it comes from",
		Long: `Print every setting with its value and where it comes from.

A setting is taken from its flag, else from its environment variable, else from
the file behind --config, else its default: --data-dir is TIDEMARK_DATA_DIR in
the environment and data-dir in the file. Names that do not exist are refused.
A setting that several commands share with different defaults is listed once for
each default.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			infos, err := a.settings.describe(a, cmd)
			if err != nil {
				return err
			}
			v := view{columns: []string{"setting", "value"}, json: infos}
			if origin || a.output != outputTable {
				v.columns = append(v.columns, "origin")
			}
			for _, i := range infos {
				v.rows = append(v.rows, []string{i.Setting, i.Value, i.Origin}[:len(v.columns)])
			}
			return a.render(v)
		},
	}
	printCommand.Flags().BoolVar(&origin, "origin", true, "show where each value comes from")
	group.AddCommand(printCommand)
	return group
}

// describe lists the settings by name, in the layers that apply sees.
func (r *settingRegistry) describe(a *app, cmd *cobra.Command) ([]settingInfo, error) {
	l, err := r.load(a.configPath(), a.environ())
	if err != nil {
		return nil, err
	}
	infos := []settingInfo{{Setting: "config", Value: a.configPath(), Origin: a.configOrigin(cmd)}}
	for _, name := range r.names() {
		seen := map[string]bool{}
		for _, s := range r.all {
			if s.flag.Name != name || seen[s.flag.DefValue] {
				continue
			}
			seen[s.flag.DefValue] = true
			i := settingInfo{Setting: name, Value: s.flag.Value.String()}
			switch {
			case cmd.Flags().Lookup(name) == s.flag && s.flag.Changed:
				i.Origin = "flag --" + name
			case l.values.Exists(name):
				// Flags of other commands were not touched by apply: go through them for the form that they print.
				if err := setFlag(s.flag, l.values.Get(name)); err != nil {
					return nil, usagef(s.flag.Usage, "setting %s from %s: %w", name, l.origin[name], err)
				}
				i.Value, i.Origin = s.flag.Value.String(), origin(l, name)
			default:
				i.Origin = "default"
				if s.cmd.HasParent() {
					i.Origin = fmt.Sprintf("default of %s", s.cmd.Name())
				}
			}
			infos = append(infos, i)
			if !strings.HasPrefix(i.Origin, "default") {
				break // the value holds whatever the default
			}
		}
	}
	return infos, nil
}

func origin(l layered, name string) string {
	if o := l.origin[name]; o == envName(name) {
		return "environment " + o
	}
	return "file " + l.origin[name]
}

func (a *app) configOrigin(cmd *cobra.Command) string {
	if f := cmd.Flags().Lookup("config"); f != nil && f.Changed {
		return "flag --config"
	}
	if a.configPath() != "" {
		return "environment " + envName("config")
	}
	return "default"
}
