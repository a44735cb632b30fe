package nemesis

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Binaries are the programs of a cluster, as paths.
type Binaries struct {
	Tidemark   string
	Etcd       string
	MakeBucket string
	MinIO      string
}

// Build makes the programs from this checkout, into a directory of the test. With race, tidemark has the race detector.
// MinIO is built once per user and version (tools/install), which takes minutes.
func Build(tb testing.TB, race bool) Binaries {
	tb.Helper()
	return BuildInto(tb, tb.TempDir(), race)
}

// BuildInto is Build into a directory of the caller's, for several tests to share.
func BuildInto(tb testing.TB, dir string, race bool) Binaries {
	tb.Helper()
	b := In(tb, dir)
	node := []string{"build", "-o", b.Tidemark}
	if race {
		node = append(node, "-race")
	}
	fromSource(tb, "go", append(node, "./cmd/tidemark")...)
	fromSource(tb, "go", "build", "-o", dir+string(filepath.Separator), "./deploy/etcd", "./deploy/makebucket")
	return b
}

// In are the programs that were built into a directory before; MinIO is where tools/install has it.
func In(tb testing.TB, dir string) Binaries {
	tb.Helper()
	return Binaries{
		Tidemark: filepath.Join(dir, "tidemark"), Etcd: filepath.Join(dir, "etcd"), MakeBucket: filepath.Join(dir, "makebucket"),
		MinIO: fromSource(tb, filepath.Join("tools", "install"), "minio"),
	}
}

// fromSource runs a command in the checkout and returns what it prints.
func fromSource(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		tb.Fatal("build the programs: the path of the source is not known")
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")
	if strings.ContainsRune(name, filepath.Separator) {
		name = filepath.Join(root, name)
	}
	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1") // with SQL
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text.String())
	}
	return strings.TrimSpace(string(out))
}

func (b Binaries) validate() error {
	for name, path := range map[string]string{"tidemark": b.Tidemark, "etcd": b.Etcd, "makebucket": b.MakeBucket, "minio": b.MinIO} {
		if path == "" {
			return fmt.Errorf("the path of %s is missing: get Binaries from Build", name)
		}
	}
	return nil
}
