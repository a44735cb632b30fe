package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is the Tidemark under test, one for all clients, each with topics and groups of its own.
type process struct {
	binary        string
	broker, http  string
	cmd           *exec.Cmd
	log           *os.File
	ended         chan error
	scratchFolder string
}

// startProcess runs `tidemark dev` on ports of the system's choice and reads from its banner where it is.
func startProcess(t *testing.T) *process {
	t.Helper()
	p := &process{binary: os.Getenv("TIDEMARK_BIN"), scratchFolder: t.TempDir(), ended: make(chan error, 1)}
	if p.binary == "" {
		p.binary = filepath.Join(p.scratchFolder, "tidemark")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", p.binary, "./cmd/tidemark")
		build.Dir = "../../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build tidemark: %v\n%s", err, out)
		}
	}
	var err error
	if p.log, err = os.Create(filepath.Join(p.scratchFolder, "log")); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(p.binary, "dev", "--data-dir", filepath.Join(p.scratchFolder, "data"), "--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0")
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	lines := bufio.NewScanner(out)
	for lines.Scan() && (p.http == "" || p.broker == "") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "Connect, gRPC, JSON"); ok {
			p.http = strings.TrimSpace(rest)
		}
		if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "Kafka "); ok {
			p.broker = strings.TrimSpace(rest)
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, out) // the rest of the banner
		p.ended <- p.cmd.Wait()
	}()
	if p.broker == "" {
		t.Fatalf("tidemark dev does not say where Kafka's clients find it; its log:\n%s", p.tail())
	}
	return p
}

func (p *process) stop(t *testing.T) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("tidemark dev was gone: %v\n%s", err, p.tail())
		return
	}
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("tidemark dev ended with %v\n%s", err, p.tail())
		}
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Errorf("tidemark dev did not stop within 40 s of SIGTERM\n%s", p.tail())
	}
	if log := p.tail(); strings.Contains(log, "panicked") {
		t.Errorf("tidemark dev met a bug:\n%s", log)
	}
}

// tail is the end of what the process said.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8<<10):])
}

// run runs the command line against the process.
func (p *process) run(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.binary, args...)
	cmd.Env = append(os.Environ(), "TIDEMARK_SERVER="+p.http)
	cmd.Stdin = strings.NewReader(input)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("tidemark %s: %w: %s", strings.Join(args, " "), err, failed.String())
	}
	return out.String(), nil
}

// lineRecord is a record as the command line prints and reads it.
type lineRecord struct {
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Timestamp int64        `json:"timestamp"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   []lineHeader `json:"headers,omitempty"`
	Encoding  string       `json:"encoding,omitempty"`
}

type lineHeader struct {
	Key   string  `json:"key"`
	Value *string `json:"value"`
}

func encode64(b []byte) *string {
	if b == nil {
		return nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return &s
}

func decode64(s *string) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(*s)
	if b == nil {
		b = []byte{}
	}
	return b, err
}

func toLine(r record) lineRecord {
	l := lineRecord{Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: encode64(r.Key), Value: encode64(r.Value), Encoding: "base64"}
	for _, h := range r.Headers {
		l.Headers = append(l.Headers, lineHeader{Key: h.Key, Value: encode64(h.Value)})
	}
	return l
}

func (l lineRecord) record() (record, error) {
	decode := decode64
	if l.Encoding == "" {
		decode = func(s *string) ([]byte, error) {
			if s == nil {
				return nil, nil
			}
			return []byte(*s), nil
		}
	}
	r := record{Partition: l.Partition, Offset: l.Offset, Timestamp: l.Timestamp}
	var err, headerErr error
	r.Key, err = decode(l.Key)
	r.Value, headerErr = decode(l.Value)
	err = errors.Join(err, headerErr)
	for _, h := range l.Headers {
		value, headerErr := decode(h.Value)
		err = errors.Join(err, headerErr)
		r.Headers = append(r.Headers, header{Key: h.Key, Value: value})
	}
	return r, err
}

func parseLines(text string) ([]record, error) {
	var out []record
	for line := range strings.Lines(text) {
		var l lineRecord
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		r, err := l.record()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// byConnect reads a topic to its end with the command line, which speaks Connect.
func (p *process) byConnect(ctx context.Context, topic string) ([]record, error) {
	text, err := p.run(ctx, "", "consume", topic, "--until-end", "-o", "json")
	if err != nil {
		return nil, err
	}
	return parseLines(text)
}

// bySQL reads a topic with a query.
func (p *process) bySQL(ctx context.Context, topic string) ([]record, error) {
	text, err := p.run(ctx, "", "sql", "-o", "json", fmt.Sprintf(`SELECT _partition AS partition, _offset AS offset, epoch_ms(_timestamp) AS timestamp,
		base64(_key_bytes) AS key, base64(_value_bytes) AS value, 'base64' AS encoding,
		[{'key': h.key, 'value': base64(h.value)} FOR h IN _headers] AS headers FROM %q`, topic))
	if err != nil {
		return nil, err
	}
	return parseLines(text)
}

// writeByConnect writes records with the command line.
func (p *process) writeByConnect(ctx context.Context, topic string, records []record) error {
	var lines strings.Builder
	for _, r := range records {
		b, err := json.Marshal(toLine(r))
		if err != nil {
			return err
		}
		lines.Write(append(b, '\n'))
	}
	_, err := p.run(ctx, lines.String(), "produce", topic, "-f", "json")
	return err
}
