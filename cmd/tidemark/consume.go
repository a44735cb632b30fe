package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/client"
)

type consumeFlags struct {
	from       string
	partitions []int32
	count      int64
	untilEnd   bool
	format     string

	group       string
	instance    string
	strategy    string
	commitEvery time.Duration
}

func newConsumeCommand(a *app) *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print records, from the start on and as they come",
		Long: `Print records, from the start on and as they come, each as its value and a line
feed. The order is that of each partition. It goes on until it is interrupted, has
printed -n records, or, with --until-end, has printed what could be read when it
began.

With -o json each record is an object on a line of its own:
  {"topic":"t","partition":0,"offset":7,"timestamp":1763942400000,
   "key":"k","value":"v","headers":[{"key":"a","value":"b"}]}
NULL is null, so a tombstone has "value":null. When key, value or a header's value
is not UTF-8, "encoding":"base64" is added, and all of them are in base64.

With --group it is a member of a consumer group: it prints the partitions that are its
share, from where the group has got to, and commits what it has printed. Ctrl-C commits and
leaves, so that the others take over at once.

` + formatHelp,
		Example: `  tidemark consume access --until-end | sort
  tidemark consume access --from 2026-11-24T00:00:00Z -n 10 -o json
  tidemark consume access -f '%p:%o %k=%v\n'
  tidemark consume access --group billing`,
		Args:              topicArg,
		ValidArgsFunction: onlyFirst(a.completeFrom(a.topicNames)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.consume(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "start", "where to begin: start, end, an `OFFSET` or a time as 2006-01-02T15:04:05Z")
	flags.Int32SliceVarP(&f.partitions, "partition", "p", nil, "read only partition `P`; may be repeated")
	flags.Int64VarP(&f.count, "count", "n", 0, "stop after `N` records")
	flags.BoolVar(&f.untilEnd, "until-end", false, "stop at the end as it was at the beginning")
	flags.StringVarP(&f.group, "group", "g", "", "be a member of `GROUP`")
	flags.StringVar(&f.instance, "instance-id", "", "`NAME` of this member that outlives it: back within 45s it has its partitions again, and nobody else gets them")
	flags.StringVar(&f.strategy, "strategy", "", "how the group shares partitions out: cooperative-sticky (default), range or roundrobin")
	flags.DurationVar(&f.commitEvery, "commit-every", defaultCommitEvery, "how often a member commits what it has printed")
	flags.StringVarP(&f.format, "format", "f", "", "print records in this `FORMAT` instead of value and line feed")
	return cmd
}

// options turns the flags into what a consumer wants.
func (f *consumeFlags) options(topic string) (consumerOptions, error) {
	o := consumerOptions{topic: topic, partitions: f.partitions, offset: -1, untilEnd: f.untilEnd}
	for _, p := range f.partitions {
		if p < 0 {
			return o, usagef("partitions count from 0", "--partition %d is no partition", p)
		}
	}
	if f.count < 0 {
		return o, usagef("leave it away to go on for ever", "-n %d is no count", f.count)
	}
	at, err := parsePlace("--from", f.from)
	if err != nil {
		return o, err
	}
	o.start, o.end, o.offset, o.timestampMs = at.start, at.end, at.offset, at.timestampMs
	err = f.groupOptions(&o)
	return o, err
}

// groupOptions are those of a member of a group.
func (f *consumeFlags) groupOptions(o *consumerOptions) error {
	if f.group == "" {
		switch {
		case f.instance != "":
			return usagef("add --group GROUP", "--instance-id is for a member of a group")
		case f.strategy != "":
			return usagef("add --group GROUP", "--strategy is for a member of a group")
		case f.commitEvery != defaultCommitEvery:
			return usagef("add --group GROUP", "--commit-every is for a member of a group")
		}
		return nil
	}
	switch {
	case len(f.partitions) > 0:
		return usagef("leave -p away", "a member of a group reads what is its share, and no partition of its choice")
	case f.untilEnd:
		return usagef("use -n, or read without a group", "--until-end cannot be told for a group: others read some of its partitions")
	case !o.start && !o.end:
		return usagef("use --from start or --from end for a group that has committed nothing; `tidemark group seek` sets where any other goes on",
			"--from %s: a group goes on where it has got to", f.from)
	case f.commitEvery < leastCommitEvery || f.commitEvery > time.Hour:
		return usagef("use 10ms to 1h", "--commit-every %s is out of range", f.commitEvery)
	}
	switch f.strategy {
	case "", client.CooperativeSticky, client.Range, client.RoundRobin:
	default:
		return usagef("use cooperative-sticky, range or roundrobin", "unknown --strategy %q", f.strategy)
	}
	o.group, o.instance, o.strategy, o.commitEvery = f.group, f.instance, f.strategy, f.commitEvery
	return nil
}

// How often members of groups commit.
const (
	defaultCommitEvery = 5 * time.Second
	leastCommitEvery   = 10 * time.Millisecond
)

// messageWriter prints records one after the other.
type messageWriter struct {
	out    *bufio.Writer
	buf    []byte
	json   bool
	format format
	count  int64
}

func (a *app) newMessageWriter(layout string) (*messageWriter, error) {
	w := &messageWriter{out: bufio.NewWriterSize(a.stdout, 256<<10)}
	switch {
	case layout != "" && a.output != outputTable:
		return nil, usagef("give one of them", "both -f and -o %s say how records look", a.output)
	case a.output == outputCSV:
		return nil, usagef("use -o json, or a layout with -f", "records are not printed as CSV")
	case layout == "json" || a.output == outputJSON:
		w.json = true
	case layout == "":
	default:
		f, err := parseFormat(layout)
		if err != nil {
			return nil, usagef("`tidemark consume --help` lists the verbs", "%w", err)
		}
		w.format = f
	}
	return w, nil
}

func (w *messageWriter) write(m *message) error {
	w.count++
	w.buf = w.buf[:0]
	switch {
	case w.json:
		w.buf = append(m.appendJSON(w.buf), '\n')
	case w.format != nil:
		var err error
		if w.buf, err = w.format.appendTo(w.buf, m, w.count); err != nil {
			return fmt.Errorf("print offset %d of partition %d: %w", m.offset, m.partition, err)
		}
	default:
		if _, err := w.out.Write(m.value); err != nil {
			return err
		}
		return w.out.WriteByte('\n')
	}
	_, err := w.out.Write(w.buf)
	return err
}

// errEnough ends a poll when the records asked for are printed.
var errEnough = errors.New("enough records")

// consume runs the command. What arrived together is printed together, and then flushed: the buffer is empty whenever
// there is nothing to print.
func (a *app) consume(ctx context.Context, topic string, f consumeFlags) error {
	options, err := f.options(topic)
	if err != nil {
		return err
	}
	w, err := a.newMessageWriter(f.format)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-a.stdoutGone:
			stop(syscall.EPIPE)
		case <-reading.Done():
		}
	}()
	c, err := a.newConsumer(ctx, options)
	if err != nil {
		return doing(err, "consume %q", topic)
	}
	for err == nil {
		err = c.poll(reading, func(m *message) error {
			if err := w.write(m); err != nil {
				return err
			}
			if w.count == f.count {
				return errEnough
			}
			return nil
		})
		flushErr := w.out.Flush()
		if flushErr == nil && (err == nil || errors.Is(err, errEnough)) {
			c.printed()
		}
		if flushErr != nil && err == nil {
			err = flushErr
		}
	}
	closeErr := c.close()
	if errors.Is(err, io.EOF) || errors.Is(err, errEnough) {
		return doing(closeErr, "consume %q", topic)
	}
	if ctx.Err() != nil {
		if closeErr != nil {
			return doing(closeErr, "consume %q", topic)
		}
		return fail(exitInterrupted, "", "") // the records are printed and nothing is owed: no more words
	}
	return doing(err, "consume %q", topic)
}
