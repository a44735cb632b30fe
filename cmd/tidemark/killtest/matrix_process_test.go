package killtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proof/failpoint"
)

// programs are what the matrix runs, as paths: a tidemark that can die at its points, without SQL, and etcd.
type programs struct{ tidemark, etcd string }

// buildPrograms builds them, or takes them from the directory TIDEMARK_KILL_MATRIX_BIN.
func buildPrograms(t *testing.T) programs {
	t.Helper()
	dir := os.Getenv("TIDEMARK_KILL_MATRIX_BIN")
	if dir == "" {
		dir = t.TempDir()
		const module = "github.com/tidemark-io/tidemark/"
		cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoints", "-o", dir+string(filepath.Separator),
			module+"cmd/tidemark", module+"deploy/etcd")
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, text)
		}
	}
	return programs{tidemark: filepath.Join(dir, "tidemark"), etcd: filepath.Join(dir, "etcd")}
}

// process is a program that can be started again with the same arguments after it has died. It is for one goroutine.
type process struct {
	name    string
	path    string
	args    []string
	logName string // what it prints in all its lives
	cmd     *exec.Cmd
	ended   chan struct{}
}

// start begins a life, which ends with ctx at the latest.
func (p *process) start(ctx context.Context, env ...string) error {
	log, err := os.OpenFile(p.logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.name, err), log.Close())
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // ProcessState tells it
		_ = log.Close()
		close(ended)
	}()
	return nil
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends it as a crash does, and waits until it is gone. One that is gone already is fine.
func (p *process) kill() {
	if p.running() {
		_ = p.cmd.Process.Kill() // gone since
		<-p.ended
	}
}

// log is what it printed.
func (p *process) log() []byte {
	text, err := os.ReadFile(p.logName)
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// tail is the end of what it printed.
func (p *process) tail() []byte {
	text := p.log()
	return text[max(0, len(text)-3000):]
}

// node is one tidemark.
type node struct {
	process

	id      string
	address string // HOST:PORT
	deaths  int    // at a point
}

func (n *node) url() string { return "http://" + n.address }

// ready waits until the node serves.
func (n *node) ready(ctx context.Context) error {
	return until(ctx, n.id+" is ready", func() error {
		if !n.running() {
			return permanent{fmt.Errorf("%s has ended: %v", n.id, n.cmd.ProcessState)}
		}
		return getOK(ctx, n.url()+"/readyz")
	})
}

// diesAt waits until the node has died at a point, and nowhere else.
func (n *node) diesAt(ctx context.Context, point string, nth int64) error {
	select {
	case <-n.ended:
	case <-ctx.Done():
		return fmt.Errorf("%s never came to %s:%d", n.id, point, nth)
	}
	n.deaths++
	line := append([]byte(failpoint.Line(point, nth)), '\n')
	status, _ := n.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGKILL || bytes.Count(n.log(), line) != n.deaths {
		return fmt.Errorf("%s ended, but not at %s:%d: %v", n.id, point, nth, n.cmd.ProcessState)
	}
	return nil
}

// startEtcd starts the etcd that all rows share, each with a cluster of its own in it. It never dies before they have ended, so it need not sync.
func startEtcd(ctx context.Context, t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	clients, peers := "http://"+fixedAddress(t), "http://"+fixedAddress(t)
	p := &process{name: "etcd", path: path, logName: filepath.Join(dir, "log"), args: []string{
		"--name", "one", "--data-dir", filepath.Join(dir, "data"), "--log-level", "warn", "--unsafe-no-fsync",
		"--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "one=" + peers,
	}}
	if err := p.start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if err := until(ctx, "etcd is ready", func() error { return getOK(ctx, clients+"/health") }); err != nil {
		t.Fatalf("%v; its log:\n%s", err, p.tail())
	}
	return clients
}

func getOK(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return nil
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

// until tries again and again until it succeeds or ctx ends, and then tells the last failure.
func until(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if _, final := errors.AsType[permanent](err); final || !wait(ctx, 5*time.Millisecond) {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
}

// wait waits for d, and tells whether ctx let it. Other processes are waited for here; nothing that is checked depends on how long.
func wait(ctx context.Context, d time.Duration) bool {
	timer := clock.System().NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// ports are given out below the range from which systems take ports for outgoing connections, since a process that has died must find
// its port free when it starts again.
var ports = struct {
	sync.Mutex

	next int
}{next: firstPort + os.Getpid()*131%(lastPort-firstPort)}

const (
	firstPort = 10_000
	lastPort  = 32_000
)

// fixedAddress is a loopback address at which nobody listens and that nobody else is given.
func fixedAddress(t *testing.T) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range lastPort - firstPort {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.next))
		if ports.next++; ports.next >= lastPort {
			ports.next = firstPort
		}
		if l, err := net.Listen("tcp4", address); err == nil {
			_ = l.Close() // it was free
			return address
		}
	}
	t.Fatal("no port of 127.0.0.1 is free")
	return ""
}
