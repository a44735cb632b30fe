package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
)

// app is what a command may touch of the process that runs it. Commands write data to stdout and all else to stderr,
// and read nothing of the process but through here.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// Whether the streams are terminals: progress, prompts and hints depend on it, data never does.
	stdinTTY, stdoutTTY, stderrTTY bool
	environ                        func() []string // name=value, as os.Environ
	clock                          clock.Clock
	fs                             disk.FS
	tempDir                        string
	// stdoutGone is closed when nobody reads stdout any more; nil when that cannot be told.
	stdoutGone <-chan struct{}

	// Set by the persistent flags, through environment and file: see config.go.
	server     string // base URL of the node to talk to
	output     string // table, json or csv; for sql also arrow or parquet
	configFile string

	// How commands get at records; those of package client unless a test says otherwise.
	newProducer func(context.Context, producerOptions) (producer, error)
	newConsumer func(context.Context, consumerOptions) (consumer, error)

	settings settingRegistry
	// started is true from the moment a command's own code runs: errors before it are about how we were called.
	started bool
}

// commands lists the constructor of every command, in the order in which help shows them. Each file of a command adds
// its line here.
var commands = []func(*app) *cobra.Command{
	newTopicCommand,
	newProduceCommand,
	newConsumeCommand,
	newSQLCommand,
	newGroupCommand,
	newClusterCommand,
	newBenchCommand,
	newDoctorCommand,
	newDevCommand,
	newServeCommand,
	newConfigCommand,
	newVersionCommand,
}

// run parses the arguments, runs the command and returns the exit code. Cancelling ctx is the interrupt: commands stop
// taking in, finish what they have begun, print what they owe, and return.
func (a *app) run(ctx context.Context, args []string) int {
	if a.newProducer == nil {
		a.newProducer = a.openProducer
	}
	if a.newConsumer == nil {
		a.newConsumer = a.openConsumer
	}
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitOK // whoever read our output has seen enough
	}
	if !a.started {
		err = asUsage(err)
	}
	return a.report(ctx, err)
}

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "A log service that keeps its data in an object store",
		Long: `Tidemark is a log service that keeps its data in an object store.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 only a part was acknowledged,
4 not found, 5 the server was not reached, 130 interrupted.`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // commandGroup names the nearest itself, on one line
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if !utf8.ValidString(arg) {
					return usagef("names are made of letters, digits, '.', '_' and '-'", "argument %q is not UTF-8", arg)
				}
			}
			if err := a.settings.apply(a, cmd); err != nil {
				return err
			}
			if err := checkOutput(a.output, cmd.Annotations[moreOutputs]); err != nil {
				return err
			}
			a.started = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "http://127.0.0.1:8640", "`URL` of a node, or of several with commas between")
	flags.StringVarP(&a.output, "output", "o", "table", "how results are printed: table, json or csv")
	flags.StringVar(&a.configFile, "config", "", "YAML `FILE` with settings; flags and TIDEMARK_* come before it")
	a.settings.register(root, flags, "server", "output")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(fmt.Sprintf("run `%s --help` for its flags", cmd.CommandPath()), "%w", nearestFlag(cmd, err))
	})
	for _, c := range commands {
		root.AddCommand(c(a))
	}
	commandGroup(root)
	return root
}

// commandGroup makes cmd a command that only has sub-commands: alone it prints its help, and a wrong name is answered
// with the nearest right one.
func commandGroup(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(append(names, c.Name()), c.Aliases...)
			}
		}
		next := fmt.Sprintf("run `%s --help` for the list", cmd.CommandPath())
		if n := nearest(args[0], names); n != "" {
			next = fmt.Sprintf("did you mean `%s %s`?", cmd.CommandPath(), n)
		}
		return usagef(next, "unknown command %q for %q", args[0], cmd.CommandPath())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// nearestFlag adds the nearest flag of cmd to an error about an unknown one.
func nearestFlag(cmd *cobra.Command, err error) error {
	_, name, ok := strings.Cut(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	name, _, _ = strings.Cut(name, "=")
	if n := nearest(name, flagNames(cmd)); n != "" {
		return fmt.Errorf("%w (did you mean --%s?)", err, n)
	}
	return err
}
