package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

type produceFlags struct {
	keyField    string
	key         string
	headers     []string
	tombstones  bool
	partition   int32
	format      string
	acks        string
	compression string
}

func newProduceCommand(a *app) *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Append records that are read from standard input",
		Long: `Append records that are read from standard input: each line is a value. One line
feed is taken off; an empty line is an empty value; a last line without a line
feed counts. A line that the topic does not take is named by its number, and
nothing behind it is sent.

--key-field takes the key from the value, which then is a JSON object: the text
of a string, the JSON of anything else. Where the line is no JSON object, the
field is absent or null, the key is NULL. Records of one key go to one partition.

At the end, and when it fails or is interrupted, it prints what was acknowledged:
records, bytes of their keys, values and headers, seconds, how far every one of
them got (none, buffered, disk, object), and the position behind them. With
--acks 0 nothing is acknowledged: then it counts what was sent.

With -f json each line is an object as consume -o json prints it.

` + formatHelp,
		Example: `  tidemark produce access --key-field ip < access.ndjson
  echo 'hello' | tidemark produce greetings -k world -H lang=en`,
		Args: topicArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.produce(cmd.Context(), args[0], f, cmd.Flags().Changed("key"))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.keyField, "key-field", "", "take the key from this top-level JSON `FIELD` of the value")
	flags.StringVarP(&f.key, "key", "k", "", "the `KEY` of every record")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "a header of every record, as `key=value`; may be repeated")
	flags.BoolVarP(&f.tombstones, "tombstone", "Z", false, "send empty values as NULL, which deletes the key when the topic is compacted")
	flags.Int32VarP(&f.partition, "partition", "p", -1, "send to partition `N`, whatever the key")
	flags.StringVarP(&f.format, "format", "f", "", "read records in this `FORMAT` instead of lines, or json")
	flags.StringVar(&f.acks, "acks", "all", "what to wait for: all (readable by all), 1 (the leader has it) or 0 (nothing)")
	flags.StringVar(&f.compression, "compression", "none", "how batches are compressed: none, gzip, snappy, lz4 or zstd")
	return cmd
}

func parseAcks(s string) (tidemarkv1.Acks, error) {
	switch s {
	case "all", "-1":
		return tidemarkv1.Acks_ACKS_ALL, nil
	case "1":
		return tidemarkv1.Acks_ACKS_LEADER, nil
	case "0":
		return tidemarkv1.Acks_ACKS_NONE, nil
	}
	return 0, usagef("use --acks all, 1 or 0", "unknown --acks %q", s)
}

func checkCompression(s string) error {
	switch s {
	case "none", "gzip", "snappy", "lz4", "zstd":
		return nil
	}
	return usagef("use none, gzip, snappy, lz4 or zstd", "unknown --compression %q", s)
}

// flushGrace is how long an interrupted or failed produce waits for what is under way.
const flushGrace = 10 * time.Second

// produce runs the command. Its order: check the flags, ask for the topic, read and send until input, interrupt or
// error ends it, wait for the answers, print the summary, and only then fail.
func (a *app) produce(ctx context.Context, topic string, f produceFlags, keyed bool) error {
	acks, err := parseAcks(f.acks)
	if err != nil {
		return err
	}
	if err := checkCompression(f.compression); err != nil {
		return err
	}
	template, err := f.template(keyed)
	if err != nil {
		return err
	}
	limit, err := a.messageLimit(ctx, topic, f.partition)
	if err != nil {
		return doing(err, "produce to %q", topic)
	}
	// sending ends at the first record that is refused, too: what comes behind it must not overtake it.
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	source, err := f.source(newInterruptible(sending, a.stdin), limit, template)
	if err != nil {
		return err
	}
	p, err := a.newProducer(ctx, producerOptions{topic: topic, acks: acks, compression: f.compression})
	if err != nil {
		return doing(err, "produce to %q", topic)
	}

	tally := newTally(topic, func(err error) { stop(err) })
	begin := a.clock.Now()
	endProgress := a.progress(func() string { return tally.progress(a.clock.Now().Sub(begin)) })
	err = send(sending, source, p, tally)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushGrace)
	defer cancel()
	waiting := ctx // a good end waits for its answers as long as it takes, or until the interrupt
	if err != nil {
		waiting = grace
	}
	flushErr := p.flush(waiting)
	if flushErr != nil && ctx.Err() != nil {
		flushErr = p.flush(grace)
	}
	closeErr := p.close(grace)
	endProgress()
	if err := a.renderSummary(tally.summary(a.clock.Now().Sub(begin))); err != nil {
		return err
	}
	return produceError(ctx, topic, tally, err, flushErr, closeErr)
}

// produceError picks the error that tells the user most, and the exit code.
func produceError(ctx context.Context, topic string, tally *tally, sendErr, flushErr, closeErr error) error {
	cause := tally.failure()
	if cause == nil {
		cause = sendErr
	}
	if cause == nil {
		cause = flushErr
	}
	if cause == nil {
		cause = closeErr
	}
	switch {
	case cause == nil:
		return nil
	case ctx.Err() != nil:
		return fail(exitInterrupted, "", "produce to %q: interrupted", topic)
	case tally.acknowledged() > 0:
		_, next := adviceFor(firstOf(reasonOf(cause)))
		if next == "" {
			next = "what the summary counts is stored; the rest, from the first record behind it, is not or not surely"
		}
		return &failure{code: exitPartly, next: next, err: doing(cause, "produce to %q", topic)}
	}
	return doing(cause, "produce to %q", topic)
}

func firstOf(reason string, metadata map[string]string) (string, map[string]string) {
	return reason, metadata
}

// send hands over the records of source until it ends or fails, or a record was refused.
func send(ctx context.Context, source messageSource, p producer, tally *tally) error {
	var m message
	for {
		if err := source.next(&m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := m.size()
		if err := p.produce(ctx, &m, func(k acked) { tally.add(k, size) }); err != nil {
			return fmt.Errorf("%s: %w", source.where(), err)
		}
	}
}

// messageLimit asks the server for the topic, and returns the bytes that a record of it may have.
func (a *app) messageLimit(ctx context.Context, topic string, partition int32) (int, error) {
	c, err := a.connect()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	t, _, err := c.GetTopic(ctx, topic)
	if err != nil {
		return 0, err
	}
	if n := t.GetPartitions(); partition >= n {
		return 0, fail(exitNotFound, fmt.Sprintf("the topic has partitions 0 to %d", n-1), "partition %d does not exist", partition)
	}
	limit, err := strconv.Atoi(t.GetConfig()["max.message.bytes"])
	if err != nil || limit <= 0 {
		return 0, fmt.Errorf("the server does not tell max.message.bytes: %q", t.GetConfig()["max.message.bytes"])
	}
	return limit, nil
}

// template is what the flags say of every record.
func (f *produceFlags) template(keyed bool) (message, error) {
	m := message{partition: f.partition}
	if f.partition < -1 {
		return m, usagef("partitions count from 0", "-p %d is no partition", f.partition)
	}
	if keyed && f.keyField != "" {
		return m, usagef("give one of them", "both -k and --key-field say what the key is")
	}
	if keyed {
		m.key = []byte(f.key)
	}
	for _, h := range f.headers {
		key, value, ok := bytes.Cut([]byte(h), []byte("="))
		if !ok || len(key) == 0 {
			return m, usagef("write it as -H key=value", "-H %q has no key", h)
		}
		m.headers = append(m.headers, messageHeader{key: string(key), value: value})
	}
	return m, nil
}

// messageSource reads one record after the other.
type messageSource interface {
	// next returns io.EOF at the end. The bytes of m are valid until the following call.
	next(m *message) error
	// where names the record that next returned last: line 7, record 7.
	where() string
}

func (f *produceFlags) source(in io.Reader, limit int, template message) (messageSource, error) {
	if f.format != "" && f.keyField != "" {
		return nil, usagef("take the key with %k", "--key-field does not go with -f")
	}
	base := sourceBase{template: template, tombstones: f.tombstones}
	switch f.format {
	case "":
		return &lineSource{sourceBase: base, lines: newLineReader(in, limit), keyField: f.keyField, takeKey: f.keyField != ""}, nil
	case "json":
		// A record in JSON may be several times as long as its bytes: base64, escapes.
		return &jsonSource{sourceBase: base, lines: newLineReader(in, 6*limit+4096)}, nil
	}
	layout, err := parseFormat(f.format)
	if err != nil {
		return nil, usagef("`tidemark produce --help` lists the verbs", "%w", err)
	}
	r, err := newFormatReader(layout, in, limit)
	if err != nil {
		return nil, usagef("`tidemark produce --help` lists the verbs", "format %q: %w", f.format, err)
	}
	return &formatSource{sourceBase: base, reader: r}, nil
}

// sourceBase lays over a record what the flags say.
type sourceBase struct {
	template   message
	tombstones bool
}

func (b *sourceBase) complete(m *message) {
	if m.key == nil {
		m.key = b.template.key
	}
	if b.template.partition >= 0 {
		m.partition = b.template.partition
	}
	if len(b.template.headers) > 0 {
		m.headers = append(slices.Clip(m.headers), b.template.headers...)
	}
	if b.tombstones && len(m.value) == 0 {
		m.value = nil
	}
}

type lineSource struct {
	sourceBase
	lines    *lineReader
	keyField string
	takeKey  bool
}

func (s *lineSource) next(m *message) error {
	line, err := s.lines.next()
	if err != nil {
		return err
	}
	*m = message{partition: -1, value: line}
	if s.takeKey {
		m.key = keyField(line, s.keyField)
	}
	s.complete(m)
	return nil
}

func (s *lineSource) where() string { return fmt.Sprintf("line %d", s.lines.line) }

type jsonSource struct {
	sourceBase
	lines *lineReader
}

func (s *jsonSource) next(m *message) error {
	line, err := s.lines.next()
	if err != nil {
		return err
	}
	if err := m.parseJSON(line); err != nil {
		return fmt.Errorf("line %d: %w", s.lines.line, err)
	}
	s.complete(m)
	return nil
}

func (s *jsonSource) where() string { return fmt.Sprintf("line %d", s.lines.line) }

type formatSource struct {
	sourceBase
	reader *formatReader
}

func (s *formatSource) next(m *message) error {
	if err := s.reader.next(m); err != nil {
		return err
	}
	s.complete(m)
	return nil
}

func (s *formatSource) where() string { return fmt.Sprintf("record %d", s.reader.count) }

// size is what the summary counts: the bytes of key, value and headers.
func (m *message) size() int {
	n := len(m.key) + len(m.value)
	for _, h := range m.headers {
		n += len(h.key) + len(h.value)
	}
	return n
}
