package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

var epoch = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// expect runs a command and compares exit code and what the streams contain.
func (a *testApp) expect(t *testing.T, code int, stdout, stderr string, args ...string) {
	t.Helper()
	if got := a.exec(args...); got != code {
		t.Errorf("%v: exit %d, want %d\n%s%s", args, got, code, &a.out, &a.err)
	}
	if stdout == "" && a.out.Len() > 0 || !strings.Contains(a.out.String(), stdout) {
		t.Errorf("%v printed %q, want %q", args, &a.out, stdout)
	}
	if stderr == "" && a.err.Len() > 0 || !strings.Contains(a.err.String(), stderr) {
		t.Errorf("%v: standard error %q, want %q", args, &a.err, stderr)
	}
	if n := strings.Count(a.err.String(), "\n"); n > 2 {
		t.Errorf("%v: %d lines on standard error", args, n)
	}
}

func TestTopicCommands(t *testing.T) {
	_, newApp := newFakeServer(t)
	newApp().expect(t, 0, "topic a created: 4 partitions, durability=disk max.message.bytes=1000\n", "",
		"topic", "create", "a", "--partitions", "4", "-c", "durability=disk")
	newApp().expect(t, 1, "", "tidemark: create topic \"a\": topic \"a\" exists\nchoose another name, or take it as it is with --if-not-exists\n", "topic", "create", "a")
	newApp().expect(t, 0, "topic a exists: 4 partitions", "", "topic", "create", "a", "--if-not-exists")
	newApp().expect(t, 0, `"result": "created"`, "", "topic", "create", "b", "-o", "json")
	newApp().expect(t, 0, "topic,partitions,durability,created\na,4,disk,2026-11-24T00:00:00Z\nb,1,object,2026-11-24T00:00:00Z\n", "", "topic", "list", "-o", "csv")
	newApp().expect(t, 0, "PARTITION  LEADER  EPOCH", "", "topic", "describe", "a")
	newApp().expect(t, 0, `"high_watermark": 3`, "", "topic", "describe", "a", "-o", "json")
	newApp().expect(t, 0, "topic a altered: 4 partitions, durability=object", "", "topic", "alter", "a", "-c", "durability=object")
	newApp().expect(t, 0, "topic a altered: 6 partitions", "", "topic", "add-partitions", "a", "--partitions", "6")
	newApp().expect(t, 0, "topic b deleted\n", "", "topic", "delete", "b")
	newApp().expect(t, 4, "", "tidemark: delete topic \"b\": topic \"b\" does not exist\n`tidemark topic list` shows", "topic", "delete", "b")
	newApp().expect(t, 4, "", "does not exist", "topic", "describe", "b")

	for _, args := range [][]string{
		{"topic", "create"},
		{"topic", "create", "x", "y"},
		{"topic", "create", "x", "--partitions", "0"},
		{"topic", "create", "x", "-c", "nothing"},
		{"topic", "create", "x", "-c", "a=1", "-c", "a=2"},
		{"topic", "create", "x", "-c", "colour=red"},
		{"topic", "alter", "a"},
		{"topic", "add-partitions", "a"},
		{"topic", "creat", "a"},
		{"topic", "create", "a", "--partition", "1"},
	} {
		if code := newApp().exec(args...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestTopicDeleteAsksOnATerminal(t *testing.T) {
	for answer, code := range map[string]int{"y\n": 0, "yes\n": 0, "\n": 1, "n\n": 1, "": 1} {
		s, newApp := newFakeServer(t)
		s.topics["a"] = &tidemarkv1.Topic{Name: "a"}
		a := newApp()
		a.stdinTTY, a.stderrTTY, a.stdin = true, true, strings.NewReader(answer)
		if got := a.exec("topic", "delete", "a"); got != code {
			t.Errorf("%q: exit %d, want %d", answer, got, code)
		}
		if _, there := s.topics["a"]; there != (code != 0) {
			t.Errorf("%q: there %v", answer, there)
		}
	}
	s, newApp := newFakeServer(t)
	s.topics["a"] = &tidemarkv1.Topic{Name: "a"}
	a := newApp()
	a.stdinTTY, a.stderrTTY = true, true
	a.expect(t, 0, "deleted", "", "topic", "delete", "a", "--yes")
}

func TestUnreachableServer(t *testing.T) {
	a := newTestApp("TIDEMARK_SERVER=http://127.0.0.1:1")
	a.expect(t, exitUnreachable, "", "connection refused\nis the server running?", "topic", "list")
}

func withTopic(t *testing.T) (*fakeServer, func(environ ...string) *testApp) {
	t.Helper()
	s, newApp := newFakeServer(t)
	newApp().expect(t, 0, "created", "", "topic", "create", "t", "--partitions", "4")
	return s, newApp
}

func produced(s *fakeServer) []string {
	var out []string
	for _, m := range s.messages["t"] {
		text := show(m.key) + "=" + show(m.value)
		for _, h := range m.headers {
			text += "|" + h.key + ":" + show(h.value)
		}
		if m.partition > 0 {
			text += fmt.Sprintf("@%d", m.partition)
		}
		out = append(out, text)
	}
	return out
}

func TestProduce(t *testing.T) {
	for _, c := range []struct {
		name, input string
		args        []string
		want        []string
	}{
		{"lines", "a\n\nb", nil, []string{"-=a", "-=", "-=b"}},
		{"nothing", "", nil, nil},
		{"carriage returns stay", "a\r\n", nil, []string{"-=a\r"}},
		{"key", "a\n", []string{"-k", "key"}, []string{"key=a"}},
		{"empty key", "a\n", []string{"-k", ""}, []string{"=a"}},
		{"key field", "{\"ip\":\"x\"}\n{\"ip\":7}\nip\n{}\n", []string{"--key-field", "ip"}, []string{`x={"ip":"x"}`, `7={"ip":7}`, `-=ip`, `-={}`}},
		{"headers", "a\nb\n", []string{"-H", "x=1", "-H", "y=", "-H", "z=a=b"}, []string{"-=a|x:1|y:|z:a=b", "-=b|x:1|y:|z:a=b"}},
		{"tombstones", "\na\n", []string{"-Z", "-k", "k"}, []string{"k=-", "k=a"}},
		{"partition", "a\n", []string{"-p", "3"}, []string{"-=a@3"}},
		{"format", "k1\tv1\nk2\tv2\n", []string{"-f", `%k\t%v\n`, "-H", "h=1"}, []string{"k1=v1|h:1", "k2=v2|h:1"}},
		{"format without value", "k1\n", []string{"-f", `%k\n`}, []string{"k1=-"}},
		{"format with partition", "2 v\n", []string{"-f", `%p %v\n`}, []string{"-=v@2"}},
		{"json", `{"key":"a","value":null,"headers":[{"key":"h","value":"1"}],"partition":1}` + "\n" + `{"value":"aGk=","encoding":"base64"}`, []string{"-f", "json"}, []string{"a=-|h:1@1", "-=hi"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, newApp := withTopic(t)
			a := newApp()
			a.stdin = strings.NewReader(c.input)
			a.expect(t, 0, fmt.Sprintf(`"records": %d`, len(c.want)), "", append([]string{"produce", "t", "-o", "json"}, c.args...)...)
			if got := produced(s); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestProduceSummary(t *testing.T) {
	_, newApp := withTopic(t)
	a := newApp()
	a.stdin = strings.NewReader("abc\nd\n")
	a.expect(t, 0, `"seconds": `, "", "produce", "t", "-k", "kk", "-o", "json")
	var s produceSummary
	if err := json.Unmarshal(a.out.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Records != 2 || s.Bytes != 8 || s.Reached != "object" || s.Position.Topic != "t" || s.Position.Offsets[0] != 2 {
		t.Errorf("got %+v", s)
	}
	a = newApp()
	a.stdin = strings.NewReader("x\n")
	a.expect(t, 0, "1 record, 1 bytes in ", "", "produce", "t")
	if !strings.HasSuffix(a.out.String(), "reached object, position t 0:3\n") {
		t.Errorf("got %q", &a.out)
	}
}

func TestProduceErrors(t *testing.T) {
	long := strings.Repeat("x", 1001)
	for _, c := range []struct {
		name, input string
		args        []string
		code        int
		records     int // -1: no summary
		stderr      string
	}{
		{"unknown topic", "a\n", []string{"nope"}, 4, -1, "tidemark: produce to \"nope\": topic \"nope\" does not exist\n"},
		{"long line", "a\nb\n" + long + "\nc\n", []string{"t"}, 3, 2, "tidemark: produce to \"t\": line 3: line is too long: more than 1000 bytes\n"},
		{"long first line", long + "\nc\n", []string{"t"}, 1, 0, "line 1: line is too long"},
		{"partition that is not there", "a\n", []string{"t", "-p", "4"}, 4, -1, "partition 4 does not exist\nthe topic has partitions 0 to 3\n"},
		{"negative partition", "a\n", []string{"t", "-p", "-2"}, 2, -1, "no partition"},
		{"acks", "a\n", []string{"t", "--acks", "2"}, 2, -1, "unknown --acks"},
		{"compression", "a\n", []string{"t", "--compression", "rar"}, 2, -1, "unknown --compression"},
		{"header", "a\n", []string{"t", "-H", "x"}, 2, -1, "has no key"},
		{"two keys", "a\n", []string{"t", "-k", "x", "--key-field", "y"}, 2, -1, "both -k and --key-field"},
		{"bad format", "a\n", []string{"t", "-f", "%q"}, 2, -1, "unknown verb %q"},
		{"unreadable format", "a\n", []string{"t", "-f", "%k%v"}, 2, -1, "cannot read %k"},
		{"input that does not fit", "a b\nc\n", []string{"t", "-f", `%k %v\n`}, 3, 1, "record 2: the input ends inside it"},
		{"bad json", "{\"value\":null}\n[]\n", []string{"t", "-f", "json"}, 3, 1, "line 2: not a record in JSON"},
		{"json with a misspelt field", "{\"valu\":\"a\"}\n", []string{"t", "-f", "json"}, 1, 0, "needs a \"value\""},
		{"json with a field too many", "{\"value\":\"a\",\"keys\":\"b\"}\n", []string{"t", "-f", "json"}, 1, 0, "unknown field"},
		{"json that is not UTF-8", "{\"value\":\"\xff\"}\n", []string{"t", "-f", "json"}, 1, 0, "line 1: not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, newApp := withTopic(t)
			a := newApp()
			a.stdin = strings.NewReader(c.input)
			stdout := ""
			if c.records >= 0 {
				stdout = fmt.Sprintf(`"records": %d,`, c.records)
			}
			a.expect(t, c.code, stdout, c.stderr, append([]string{"produce", "-o", "json"}, c.args...)...)
			if n := len(s.messages["t"]); n != max(c.records, 0) {
				t.Errorf("%d records were sent", n)
			}
		})
	}
}

// What a server refuses ends the sending, and what was acknowledged before is in the summary.
func TestProduceRefused(t *testing.T) {
	for failAt, code := range map[int]int{1: exitFailed, 3: exitPartly} {
		s, newApp := withTopic(t)
		s.failAt, s.failWith = failAt, &client.Error{Code: connect.CodeResourceExhausted, Reason: "BACK_PRESSURE", Message: "object store: no space left"}
		a := newApp()
		a.stdin = io.MultiReader(strings.NewReader(strings.Repeat("x\n", 10)), endless{})
		a.expect(t, code, fmt.Sprintf(`"records": %d,`, failAt-1), "tidemark: produce to \"t\": object store: no space left\nthe server takes records again", "produce", "t", "-o", "json")
	}
	s, newApp := withTopic(t)
	s.failAt, s.failWith = 2, errFake
	a := newApp()
	a.stdin = strings.NewReader("a\nb\n")
	a.expect(t, exitPartly, "1 record", "disk on fire\nwhat the summary counts is stored", "produce", "t")
}

// endless is an input that never ends and never gives anything.
type endless struct{}

func (endless) Read([]byte) (int, error) { return 0, nil }

func TestProduceInterrupted(t *testing.T) {
	_, newApp := withTopic(t)
	a := newApp()
	in, feed := io.Pipe()
	defer feed.Close()
	a.stdin = in
	ctx, interrupt := context.WithCancel(t.Context())
	inner := a.newProducer
	a.newProducer = func(ctx context.Context, o producerOptions) (producer, error) {
		p, err := inner(ctx, o)
		return &interruptingProducer{producer: p, interrupt: interrupt}, err
	}
	go func() {
		if _, err := io.WriteString(feed, "a\nb\nunfinished"); err != nil {
			return
		}
	}()
	if code := a.run(ctx, []string{"produce", "t", "-o", "json"}); code != exitInterrupted {
		t.Errorf("exit %d: %s", code, &a.err)
	}
	if !strings.Contains(a.out.String(), `"records": 2,`) || a.err.String() != "tidemark: produce to \"t\": interrupted\n" {
		t.Errorf("%s %s", &a.out, &a.err)
	}
}

// interruptingProducer interrupts the program at the second record.
type interruptingProducer struct {
	producer
	n         int
	interrupt func()
}

func (p *interruptingProducer) produce(ctx context.Context, m *message, done func(acked)) error {
	err := p.producer.produce(ctx, m, done)
	if p.n++; p.n == 2 {
		p.interrupt()
	}
	return err
}

func TestConsume(t *testing.T) {
	_, newApp := withTopic(t)
	a := newApp()
	a.stdin = strings.NewReader("0 k a\n1 k b\n0 - c\n")
	a.expect(t, 0, "3 records", "", "produce", "t", "-f", `%p %k %v\n`)
	newApp().expect(t, 0, "a\nc\nb\n", "", "consume", "t", "--until-end")
	newApp().expect(t, 0, "b\n", "", "consume", "t", "--until-end", "-p", "1")
	newApp().expect(t, 0, "a\nc\n", "", "consume", "t", "-n", "2")
	newApp().expect(t, 0, "c\nb\n", "", "consume", "t", "--until-end", "--from", "1")
	newApp().expect(t, 0, "", "", "consume", "t", "--until-end", "--from", "end")
	newApp().expect(t, 0, "", "", "consume", "t", "--until-end", "--from", "2030-01-01T00:00:00Z")
	newApp().expect(t, 0, "0/0 k=a;0/2 -=c;1/1 k=b;", "", "consume", "t", "--until-end", "-f", "%p/%o %k=%v;")
	newApp().expect(t, 0, `{"topic":"t","partition":1,"offset":1,"timestamp":0,"key":"k","value":"b"}`+"\n", "", "consume", "t", "--until-end", "-p", "1", "-o", "json")
	newApp().expect(t, 4, "", "topic \"nope\" does not exist", "consume", "nope")
	for _, args := range [][]string{
		{"--from", "yesterday"}, {"--from", "-1"}, {"-n", "-1"}, {"-p", "-1"}, {"-f", "%q"}, {"-f", "%v", "-o", "json"}, {"-o", "csv"},
	} {
		if code := newApp().exec(append([]string{"consume", "t"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// Whoever reads our output and goes away is no error.
func TestConsumeBrokenPipe(t *testing.T) {
	_, newApp := withTopic(t)
	a := newApp()
	a.stdin = strings.NewReader("a\n")
	a.expect(t, 0, "1 record", "", "produce", "t")
	a = newApp()
	a.stdout = brokenPipe{}
	a.expect(t, 0, "", "", "consume", "t")
}

// That is noticed also when there is nothing to write.
func TestConsumeReaderGone(t *testing.T) {
	_, newApp := withTopic(t)
	a := newApp()
	gone := make(chan struct{})
	close(gone)
	a.stdoutGone = gone
	a.expect(t, 0, "", "", "consume", "t")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, fmt.Errorf("write: %w", syscall.EPIPE) }

func TestConsumeInterrupted(t *testing.T) {
	_, newApp := withTopic(t)
	a := newApp()
	ctx, interrupt := context.WithCancel(t.Context())
	a.stdout = writerFunc(func(p []byte) (int, error) { interrupt(); return a.out.Write(p) })
	in := newApp()
	in.stdin = strings.NewReader("a\n")
	in.expect(t, 0, "1 record", "", "produce", "t")
	timeout, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if code := a.run(timeout, []string{"consume", "t"}); code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
	if a.out.String() != "a\n" || a.err.Len() > 0 {
		t.Errorf("%q %q", &a.out, &a.err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What consume prints in a layout, produce reads back: through the commands, both in a layout and in JSON.
func TestConsumeProduceRoundTrip(t *testing.T) {
	s, newApp := withTopic(t)
	s.messages["t"] = []message{
		{topic: "t", key: []byte("k"), value: []byte("v\n\x00\xff"), headers: []messageHeader{{"h", nil}, {"", []byte{}}, {"h", []byte("x y")}}, timestamp: 5},
		{topic: "t", offset: 1, value: []byte{}, timestamp: 6},
		{topic: "t", partition: 2, offset: 2, key: []byte{}, timestamp: 7},
	}
	want := produced(s)
	for _, how := range [][2][]string{
		{{"-f", losslessFormat}, {"-f", losslessFormat}},
		{{"-o", "json"}, {"-f", "json"}},
	} {
		out := newApp()
		out.expect(t, 0, "v", "", append([]string{"consume", "t", "--until-end"}, how[0]...)...)
		other, otherApp := withTopic(t)
		in := otherApp()
		in.stdin = bytes.NewReader(out.out.Bytes())
		in.expect(t, 0, "3 records", "", append([]string{"produce", "t"}, how[1]...)...)
		if got := produced(other); !slices.Equal(got, want) {
			t.Errorf("%v: got %q, want %q", how[0], got, want)
		}
		if got := other.messages["t"][1].timestamp; got != 6 {
			t.Errorf("%v: timestamp %d", how[0], got)
		}
	}
}

func TestBench(t *testing.T) {
	s, newApp := newFakeServer(t)
	a := newApp()
	a.expect(t, 0, `"ack_latency"`, "", "bench", "produce", "--records", "1001", "--producers", "3", "--size", "100", "--no-limits", "-o", "json", "--durability", "disk")
	var r benchReport
	if err := json.Unmarshal(a.out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Records != 1001 || r.Bytes != 100_100 || r.Durability != "disk" || r.ServerRSS != 123_000_000 || r.Latency == nil || r.Latency.Max <= 0 || len(s.opened) != 3 {
		t.Errorf("got %+v, %d producers", r, len(s.opened))
	}
	newApp().expect(t, 0, "ack         p50", "", "bench", "produce", "--records", "20", "--rate", "2000", "--no-limits")
	newApp().expect(t, 0, "records     100 in", "", "bench", "produce", "--rate", "1000", "--duration", "100ms", "--no-limits")
	newApp().expect(t, 0, "records     500 in", "", "bench", "consume", "--records", "500", "--no-limits")
	if len(s.topics) > 0 {
		t.Errorf("topics are left: %v", sortedKeys(s.topics))
	}
	s.failAt, s.failWith = 1, errFake
	newApp().expect(t, 1, "", "disk on fire", "bench", "produce", "--records", "20", "--no-limits")
	newApp().expect(t, 4, "", "does not exist", "bench", "produce", "--topic", "nope", "--no-limits")
	for _, args := range [][]string{{"--size", "-1"}, {"--producers", "0"}, {"--durability", "ram"}, {"--rate", "-1"}, {"--partitions", "0"}, {"--acks", "x"}} {
		if code := newApp().exec(append([]string{"bench", "produce", "--no-limits"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
	if len(s.topics) > 0 {
		t.Errorf("topics are left: %v", sortedKeys(s.topics))
	}
}

func TestHelpAndVersion(t *testing.T) {
	newTestApp().expect(t, 0, "Exit codes: 0 done", "", "--help")
	newTestApp().expect(t, 0, losslessFormat, "", "consume", "--help")
	newTestApp().expect(t, 0, "tidemark devel", "", "version")
	newTestApp().expect(t, 0, `"platform"`, "", "version", "-o", "json")
	newTestApp().expect(t, 0, "bash completion", "", "completion", "bash")
	newTestApp().expect(t, 2, "", "did you mean `tidemark consume`?", "consme")
	newTestApp().expect(t, 2, "", "(did you mean --until-end?)", "consume", "--until-ned", "t")
}
