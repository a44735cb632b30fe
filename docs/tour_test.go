// Package docs holds the documentation, and the test that it tells the truth.
package docs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// line is a line of the tour, with what it is said to print.
type line struct {
	number  int // in README.md
	command string
	prints  []string
}

// TestTour pastes the README's tour, line by line, as a reader would.
func TestTour(t *testing.T) {
	needTools(t)
	blocks := readBlocks(t, "../README.md", "## A tour")
	root := t.TempDir()
	binary := build(t, root, "tidemark", "../cmd/tidemark", "1")

	address := freeAddress(t)
	server := startServer(t, binary, filepath.Join(root, "data"), address)
	for i, block := range blocks {
		if i == len(blocks)-1 {
			// The last block shows what is still there after a stop that was not clean.
			server.kill(t)
			server = startServer(t, binary, filepath.Join(root, "data"), address)
		}
		for _, l := range block {
			pasteLine(t, root, "http://"+address, l)
		}
	}
	server.stop(t)
}

// TestThreeNodes pastes the README's section of that name, on an etcd and three nodes.
func TestThreeNodes(t *testing.T) {
	needTools(t)
	blocks := readBlocks(t, "../README.md", "## Three nodes")
	root := t.TempDir()
	binary := build(t, root, "tidemark", "../cmd/tidemark", "0") // no SQL here, and it links faster
	etcd := startEtcd(t, build(t, root, "etcd", "../deploy/etcd", "0"), filepath.Join(root, "etcd-data"))
	var nodes []*server
	var urls []string
	for n := range 3 {
		address, name := freeAddress(t), fmt.Sprint("node-", n+1)
		nodes = append(nodes, start(t, binary, address, "serve", "--node-id", name, "--data-dir", filepath.Join(root, name), "--http", address, "--kafka", "off",
			"--etcd", etcd, "--store", "file://"+filepath.Join(root, "store")))
		urls = append(urls, "http://"+address)
	}
	for _, node := range nodes {
		node.waitFor(t, "")
	}
	for _, block := range blocks {
		for _, l := range block {
			pasteLine(t, root, strings.Join(urls, ","), l)
		}
	}
	for _, node := range nodes {
		node.stop(t)
	}
}

func needTools(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs the whole server; leave -short away")
	}
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the tour is pasted into bash and calls curl: %v", err)
		}
	}
}

// build makes a program in bin/ of a directory.
func build(t *testing.T, root, name, of, cgo string) string {
	t.Helper()
	binary := filepath.Join(root, "bin", name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, of)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return binary
}

// pasteLine runs one line with bash, in a directory where bin/tidemark is, as in a clone.
func pasteLine(t *testing.T, dir, server string, l line) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if strings.HasPrefix(l.command, "export ") {
		return // the next line is not of the same bash; it has what was exported, but for our own address
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", l.command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TIDEMARK_SERVER="+server, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("README.md:%d: %s\n%v\nstdout: %s\nstderr: %s", l.number, l.command, err, &stdout, &stderr)
	}
	for _, want := range l.prints {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("README.md:%d: %s\ndoes not print %q but:\n%s", l.number, l.command, want, &stdout)
		}
	}
}

// readBlocks returns the sh blocks of a section.
func readBlocks(t *testing.T, name, section string) [][]line {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]line
	inSection, inBlock := false, false
	for i, s := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(s, "## "):
			inSection = strings.HasPrefix(s, section)
		case !inSection:
		case s == "```sh":
			inBlock = true
			blocks = append(blocks, nil)
		case s == "```":
			inBlock = false
		case !inBlock || s == "":
		default:
			block := &blocks[len(blocks)-1]
			want, marked := strings.CutPrefix(s, "# prints: ")
			if !marked {
				*block = append(*block, line{number: i + 1, command: s})
				continue
			}
			if len(*block) == 0 {
				t.Fatalf("%s:%d: tells what is printed before any command", name, i+1)
			}
			last := &(*block)[len(*block)-1]
			last.prints = append(last.prints, want)
		}
	}
	if len(blocks) < 3 {
		t.Fatalf("found %d blocks of %q in %s; did its heading change?", len(blocks), section, name)
	}
	return blocks
}

// freeAddress returns a loopback address that was free a moment ago. The server must have the same one after a restart,
// so it cannot choose by itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type server struct {
	cmd     *exec.Cmd
	address string
	log     *output
	done    chan struct{} // closed when the process has gone
	err     error         // of the process, after done
}

// output is what a process prints, readable while it does.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// startServer starts what `make run` does and returns when its banner is there, as a reader would wait for it.
func startServer(t *testing.T, binary, data, address string) *server {
	t.Helper()
	s := start(t, binary, address, "dev", "--demo", "--data-dir", data, "--http", address, "--kafka", "off")
	s.waitFor(t, "Ctrl-C stops")
	return s
}

// start runs a program that serves at an address; it is killed at the end of the test.
func start(t *testing.T, binary, address string, args ...string) *server {
	t.Helper()
	s := &server{log: new(output), address: address, done: make(chan struct{})}
	s.cmd = exec.Command(binary, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // an error says that it has gone already
		<-s.done
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], tail([]byte(s.log.String()), 40))
		}
	})
	return s
}

// waitFor waits until the server is ready and has said a text.
func (s *server) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := clock.System().NewTimer(time.Minute)
	defer deadline.Stop()
	poll := clock.System().NewTimer(0)
	defer poll.Stop()
	for !strings.Contains(s.log.String(), text) || !ready(t, s.address) {
		select {
		case <-s.done:
			t.Fatalf("the server ended while starting: %v", s.err)
		case <-deadline.C():
			t.Fatal("the server was not ready within a minute")
		case <-poll.C():
			poll.Reset(20 * time.Millisecond)
		}
	}
}

// startEtcd runs an etcd and returns its URL; whoever needs it waits for it.
func startEtcd(t *testing.T, binary, data string) string {
	t.Helper()
	client, peer := freeAddress(t), "http://"+freeAddress(t)
	start(t, binary, client, "--name", "tour", "--data-dir", data, "--log-level", "warn",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "tour="+peer)
	return "http://" + client
}

func ready(t *testing.T, address string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/readyz", address), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// kill ends the server as a crash does.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.done
}

// stop asks the server to end, and expects that it says it went well.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.done
	if s.err != nil {
		t.Errorf("the server was asked to stop and ended with: %v", s.err)
	}
}

// tail returns the last n lines.
func tail(text []byte, n int) string {
	var lines []string
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
