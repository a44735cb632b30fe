package kafkabench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

func now() time.Time { return clock.System().Now() }

func sleep(d time.Duration) {
	if d > 0 {
		<-clock.System().NewTimer(d).C()
	}
}

// server is a process that speaks Kafka's protocol.
type server struct {
	name    string
	address string
	process *exec.Cmd
	log     *os.File
}

// ticksPerSecond is what /proc counts in; it is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// cpu is the time that the server has computed so far.
func (s *server) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name in parentheses may hold spaces.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// resident is the server's memory in bytes.
func (s *server) resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// begin starts a process and waits until its port answers. It ends with the test.
func begin(t *testing.T, name, address, dir string, command *exec.Cmd) *server {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{name: name, address: address, process: command, log: log}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		done := make(chan error, 1)
		go func() { done <- command.Wait() }()
		select {
		case <-done:
		case <-clock.System().NewTimer(20 * time.Second).C():
			_ = command.Process.Kill()
			<-done
		}
		_ = log.Close()
	})
	for until := now().Add(90 * time.Second); ; sleep(100 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			return s
		}
		if now().After(until) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("%s does not listen at %s: %v\n%s", name, address, err, said)
		}
	}
}

// freePort is a port of the loopback address that nobody has now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// tidemarkBinary is that of TIDEMARK_BIN, or else built once.
func tidemarkBinary(t *testing.T, dir string) string {
	t.Helper()
	if binary := os.Getenv("TIDEMARK_BIN"); binary != "" {
		return binary
	}
	binary := filepath.Join(dir, "tidemark")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	build := exec.Command("go", "build", "-o", binary, "github.com/tidemark-io/tidemark/cmd/tidemark")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// tidemark starts a node with everything in its data directory.
func tidemark(t *testing.T, dir string) *server {
	t.Helper()
	binary := tidemarkBinary(t, dir)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	return begin(t, "tidemark", address, dir, exec.Command(binary, "dev", "--data-dir", filepath.Join(dir, "tidemark-data"),
		"--http", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--kafka", address, "--log-level", "warn"))
}

// classpath is where Kafka is; Maven brings it.
func classpath(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "classpath")
	maven := exec.Command("mvn", "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile="+file)
	maven.Dir = "peer"
	if out, err := maven.CombinedOutput(); err != nil {
		t.Fatalf("fetch Apache Kafka: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// kafka starts one broker with the settings that Kafka comes with, but for addresses, directories, and that what is deleted is gone at once and not a minute
// later, in the middle of another measurement. The heap is that of its start script.
func kafka(t *testing.T, dir, classpath string) *server {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	control := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	settings := filepath.Join(dir, "server.properties")
	text := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=%[2]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
controller.listener.names=CONTROLLER
log.dirs=%[3]s
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.segment.delete.delay.ms=1000
`, address, control, filepath.Join(dir, "kafka-data"))
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	format := exec.Command("java", "-cp", classpath, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", settings, "--standalone")
	if out, err := format.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return begin(t, "kafka", address, dir, exec.Command("java", "-Xms1G", "-Xmx1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-cp", classpath, "kafka.Kafka", settings))
}

// output runs a command and gives what it printed.
func output(ctx context.Context, t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
