package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/client"
)

type sqlFlags struct {
	file    string
	out     string
	atLeast []string
	timeout time.Duration
	maxRows int64
}

// maxStatement is the longest statement that a server takes.
const maxStatement = 1 << 20

func newSQLCommand(a *app) *cobra.Command {
	var f sqlFlags
	cmd := &cobra.Command{
		Use:   "sql [STATEMENT]",
		Short: "Ask SQL over topics",
		Long: `Ask SQL over topics: each topic is a table, and what the cluster tells of itself is
in the schema system. An answer covers every record that was acknowledged before
the question, and a table ends with the offsets that it covers.

The statement is the argument, or stands in the file of -f, or comes in on standard
input. On a terminal, without any of them, it is a prompt: statements end with ';',
Tab completes names, the arrow keys bring back what was asked, \h helps.

-o json prints one object a line, csv a line of names and then the rows, both as
they come; arrow writes an Arrow IPC stream and parquet a Parquet file, both to a
pipe or with --out. A table shows at most 10000 rows.

--at-least waits for the position that ` + "`tidemark produce`" + ` printed, so that the answer
holds what was produced there.`,
		Example: `  tidemark sql 'SELECT region, count(*), sum(amount) FROM orders GROUP BY ALL'
  tidemark sql 'FROM access LIMIT 10' -o json | jq .path
  tidemark sql -f report.sql --timeout 1m --out report.csv -o csv
  tidemark sql 'SELECT count(*) FROM access' --at-least 'access 0:2394 1:2058'
  tidemark sql 'FROM orders' -o arrow | python3 -c 'import pyarrow.ipc, sys; print(pyarrow.ipc.open_stream(sys.stdin.buffer).read_all())'`,
		Annotations: map[string]string{moreOutputs: outputArrow + " " + outputParquet},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("put the statement into quotes: tidemark sql 'SELECT …'", "%d arguments given, one statement wanted", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.sql(cmd.Context(), args, &f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "read the statement from this `FILE`; - is standard input")
	flags.StringVar(&f.out, "out", "", "write the result to this `FILE`, when all of it is there")
	flags.StringArrayVar(&f.atLeast, "at-least", nil, "wait for this `POSITION`, such as 'access 0:2394 1:2058'; may be repeated")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the query after this `TIME`, waiting included (default: the server's limit)")
	flags.Int64Var(&f.maxRows, "max-rows", 0, "fail when the result has more than `N` rows (default: the limit of the server, --query-rows there; it has none unless it was given one)")
	return cmd
}

// options turns the flags into what a query wants.
func (f *sqlFlags) options() (client.QueryOptions, error) {
	o := client.QueryOptions{Timeout: f.timeout, MaxRows: f.maxRows}
	switch {
	case f.timeout < 0:
		return o, usagef("leave it away for the server's limit", "--timeout %s is no time", f.timeout)
	case f.maxRows < 0:
		return o, usagef("leave it away for the server's limit", "--max-rows %d is no count", f.maxRows)
	}
	for _, text := range f.atLeast {
		p, err := client.ParsePosition(text)
		if err != nil {
			return o, usagef("give --at-least what `tidemark produce` prints behind the word position, in quotes", "%w", err)
		}
		o.AtLeast = append(o.AtLeast, p)
	}
	return o, nil
}

func (a *app) sql(ctx context.Context, args []string, f *sqlFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	prompt := len(args) == 0 && f.file == "" && a.stdinTTY
	if binary := a.output == outputArrow || a.output == outputParquet; binary && f.out == "" && (a.stdoutTTY || prompt) {
		return usagef("write it to a file with --out FILE, or to a pipe", "-o %s is not for a terminal", a.output)
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if prompt {
		if f.out != "" || !a.stdoutTTY {
			return usagef("give it as an argument, in a file with -f, or on standard input", "no statement given")
		}
		return a.sqlShell(ctx, c, o)
	}
	statement, err := a.statement(ctx, args, f.file)
	if err != nil {
		return err
	}
	return a.askOnce(ctx, c, statement, o, f.out)
}

// statement is the text to ask, from where it is.
func (a *app) statement(ctx context.Context, args []string, file string) (string, error) {
	if len(args) > 0 && file != "" {
		return "", usagef("give one of them", "the statement is both an argument and in the file of -f")
	}
	var text string
	switch {
	case len(args) > 0:
		text = args[0]
	case file == "" || file == "-":
		b, err := io.ReadAll(io.LimitReader(newInterruptible(ctx, a.stdin), maxStatement+1))
		if err != nil {
			return "", fmt.Errorf("read the statement from standard input: %w", err)
		}
		text = string(b)
	default:
		in, err := os.Open(file)
		if err != nil {
			return "", usagef("check the path behind -f", "read the statement: %w", err)
		}
		b, err := io.ReadAll(io.LimitReader(in, maxStatement+1))
		if err = errors.Join(err, in.Close()); err != nil {
			return "", fmt.Errorf("read the statement from %s: %w", file, err)
		}
		text = string(b)
	}
	switch {
	case len(text) > maxStatement:
		return "", usagef("put the data into a topic and ask for it there", "the statement is longer than %d bytes", maxStatement)
	case strings.TrimSpace(text) == "":
		return "", usagef("try `tidemark sql 'SHOW TABLES'`", "no statement given")
	}
	return text, nil
}

// askOnce runs one statement for a command line: the result goes to standard output or a file.
func (a *app) askOnce(ctx context.Context, c *client.Client, statement string, o client.QueryOptions, file string) (err error) {
	out := a.stdout
	if file != "" {
		f, openErr := newOutFile(file, a.clock.Now())
		if openErr != nil {
			return openErr
		}
		defer func() { err = f.finish(err) }()
		out = f
	}
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-a.stdoutGone:
			stop(errReaderGone)
		case <-asking.Done():
		}
	}()
	width := 0
	if a.stdoutTTY && file == "" {
		width = terminalWidth(a.stdout)
	}
	err = a.ask(asking, c, statement, o, out, width)
	if errors.Is(context.Cause(asking), errReaderGone) {
		return errReaderGone
	}
	return err
}
