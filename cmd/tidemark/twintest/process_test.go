//go:build cgo

package twintest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
)

// pause waits. Real processes run here, and nothing that is checked depends on how long it takes.
func pause(d time.Duration) { <-clock.System().NewTimer(d).C() }

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, s, err)
	}
	return n
}

// shared is a directory that lives as long as all tests.
var shared string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tidemark-twin")
	if err != nil {
		panic(err)
	}
	shared = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// built makes the command, with SQL, once for all tests.
var built = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(shared, "tidemark")
	cmd := exec.Command("go", "build", "-o", path, "github.com/tidemark-io/tidemark/cmd/tidemark")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return path, nil
})

func build(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return path
}

// process is the server under test.
type process struct {
	t         *testing.T
	binary    string
	arguments []string
	address   string
	cmd       *exec.Cmd
	log       *os.File
}

// newProcess starts a server in a directory of its own.
func newProcess(t *testing.T, binary string, flags ...string) *process {
	t.Helper()
	dir := os.Getenv("TIDEMARK_TWIN_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0") // the same address after each restart
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, binary: binary, address: l.Addr().String(), log: log}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.arguments = append([]string{"dev", "--data-dir", filepath.Join(dir, "data"), "--http", p.address, "--kafka", "off"}, flags...)
	p.start()
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", p.tail())
		}
		_ = log.Close()
	})
	return p
}

func (p *process) url() string { return "http://" + p.address }

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, p.arguments...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	deadline := clock.System().Now().Add(time.Minute)
	for clock.System().Now().Before(deadline) {
		if p.ready() {
			return
		}
		pause(10 * time.Millisecond) // polling another process
	}
	p.t.Fatalf("the server is not ready after a minute; its log:\n%s", p.tail())
}

func (p *process) ready() bool {
	answer, err := http.Get(p.url() + "/readyz")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// kill ends the process without a word. It may be called beside anything but itself and start.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("kill the server: %v; its log:\n%s", err, p.tail())
	}
	_ = p.cmd.Wait() // says that it was killed
	p.cmd = nil
}

// tail is the end of the log, or what it says about a crash.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return []byte(err.Error())
	}
	for _, crash := range []string{"\npanic: ", "\nfatal error: ", "\nSIG", "terminate called"} {
		if at := bytes.Index(text, []byte(crash)); at >= 0 {
			return text[at:min(len(text), at+8000)]
		}
	}
	return text[max(0, len(text)-4000):]
}

func (p *process) client() *client.Client {
	p.t.Helper()
	c, err := client.New(client.Config{Server: p.url()})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}
