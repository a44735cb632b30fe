package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// foreign is a client of another language: a program that takes calls as JSON lines and answers each with one line, in order.
//
//	{"id":1,"do":"createTopic","topic":"t","partitions":3}              {"id":1}
//	{"id":2,"do":"produce","topic":"t","how":{…},"records":[…]}         {"id":2,"records":[…]}     with partitions and offsets
//	{"id":3,"do":"consume","topic":"t","partitions":3,"n":10}           {"id":3,"records":[…]}
//	{"id":4,"do":"seek","topic":"t","partition":0,"ms":1700000000000}   {"id":4,"records":[…]}     one
//	{"id":5,"do":"join","group":"g","topic":"t"}                        {"id":5,"member":0}
//	{"id":6,"do":"poll","member":0,"ms":300}                            {"id":6,"records":[…]}
//	{"id":7,"do":"commit","member":0}                                   {"id":7}
//	{"id":8,"do":"leave","member":0}                                    {"id":8,"error":"what went wrong"}
//
// Records have the form in which the command line prints them, always in base64. Its standard error is kept for what fails.
type foreign struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said bytes.Buffer
	stop context.CancelFunc
	id   int
}

type foreignCall struct {
	ID         int          `json:"id"`
	Do         string       `json:"do"`
	Topic      string       `json:"topic,omitempty"`
	Group      string       `json:"group,omitempty"`
	Partitions int          `json:"partitions,omitempty"`
	Partition  int32        `json:"partition"`
	N          int          `json:"n,omitempty"`
	MS         int64        `json:"ms,omitempty"`
	Member     int          `json:"member"`
	How        *producing   `json:"how,omitempty"`
	Records    []lineRecord `json:"records,omitempty"`
}

type foreignAnswer struct {
	ID      int          `json:"id"`
	Error   string       `json:"error"`
	Records []lineRecord `json:"records"`
	Member  int          `json:"member"`
}

func openForeign(name string, args ...string) (client, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &foreign{cmd: exec.CommandContext(ctx, name, args...), stop: stop}
	f.cmd.Stderr = &f.said
	f.cmd.WaitDelay = 10 * time.Second
	var err error
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		stop()
		return nil, err
	}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		stop()
		return nil, err
	}
	f.out = bufio.NewReaderSize(out, 1<<20)
	if err := f.cmd.Start(); err != nil {
		stop()
		return nil, err
	}
	return f, nil
}

// ask makes one call. A program that does not answer in time is ended.
func (f *foreign) ask(ctx context.Context, c foreignCall) (foreignAnswer, error) {
	f.id++
	c.ID = f.id
	line, err := json.Marshal(c)
	if err != nil {
		return foreignAnswer{}, err
	}
	giveUp := context.AfterFunc(ctx, f.stop)
	defer giveUp()
	if _, err := f.in.Write(append(line, '\n')); err != nil {
		return foreignAnswer{}, fmt.Errorf("%s: %w: %s", c.Do, err, f.said.String())
	}
	line, err = f.out.ReadBytes('\n')
	if err != nil {
		return foreignAnswer{}, fmt.Errorf("%s: %w: %s", c.Do, errors.Join(err, ctx.Err()), f.said.String())
	}
	var a foreignAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("%s: %w: %s", c.Do, err, line)
	}
	switch {
	case a.ID != c.ID:
		return a, fmt.Errorf("%s: an answer to call %d, not %d", c.Do, a.ID, c.ID)
	case a.Error != "":
		return a, fmt.Errorf("%s: %s", c.Do, a.Error)
	}
	return a, nil
}

func (f *foreign) askRecords(ctx context.Context, c foreignCall) ([]record, error) {
	a, err := f.ask(ctx, c)
	if err != nil {
		return nil, err
	}
	var out []record
	for _, l := range a.Records {
		r, err := l.record()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (f *foreign) createTopic(ctx context.Context, topic string, partitions int) error {
	_, err := f.ask(ctx, foreignCall{Do: "createTopic", Topic: topic, Partitions: partitions})
	return err
}

func (f *foreign) deleteTopic(ctx context.Context, topic string) error {
	_, err := f.ask(ctx, foreignCall{Do: "deleteTopic", Topic: topic})
	return err
}

func (f *foreign) produce(ctx context.Context, topic string, how producing, records []record) error {
	c := foreignCall{Do: "produce", Topic: topic, How: &how}
	for _, r := range records {
		c.Records = append(c.Records, toLine(r))
	}
	told, err := f.askRecords(ctx, c)
	if err != nil {
		return err
	}
	if len(told) != len(records) {
		return errUnfinished(len(told), len(records), nil)
	}
	for i, r := range told {
		records[i].Partition, records[i].Offset = r.Partition, r.Offset
	}
	return nil
}

func (f *foreign) consume(ctx context.Context, topic string, partitions, n int) ([]record, error) {
	return f.askRecords(ctx, foreignCall{Do: "consume", Topic: topic, Partitions: partitions, N: n})
}

func (f *foreign) seek(ctx context.Context, topic string, partition int32, ms int64) (record, error) {
	got, err := f.askRecords(ctx, foreignCall{Do: "seek", Topic: topic, Partition: partition, MS: ms})
	if err != nil {
		return record{}, err
	}
	if len(got) != 1 {
		return record{}, errUnfinished(len(got), 1, nil)
	}
	return got[0], nil
}

type foreignMember struct {
	f  *foreign
	id int
}

func (f *foreign) join(ctx context.Context, group, topic string) (member, error) {
	a, err := f.ask(ctx, foreignCall{Do: "join", Group: group, Topic: topic})
	return &foreignMember{f: f, id: a.Member}, err
}

func (m *foreignMember) poll(ctx context.Context, patience time.Duration) ([]record, error) {
	return m.f.askRecords(ctx, foreignCall{Do: "poll", Member: m.id, MS: patience.Milliseconds()})
}

func (m *foreignMember) commit(ctx context.Context) error {
	_, err := m.f.ask(ctx, foreignCall{Do: "commit", Member: m.id})
	return err
}

func (m *foreignMember) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), storyPatience)
	defer cancel()
	_, err := m.f.ask(ctx, foreignCall{Do: "leave", Member: m.id})
	return err
}

// close ends the program by the end of its input.
func (f *foreign) close() error {
	err := f.in.Close()
	late := time.AfterFunc(20*time.Second, f.stop)
	defer late.Stop()
	defer f.stop()
	if waited := f.cmd.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("%w: %s", waited, f.said.String()))
	}
	return err
}
