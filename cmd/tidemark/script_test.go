package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this test binary as tidemark.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tidemark": main})
}

// TestScripts runs testdata/script against a real node, all in one, with the command as a process of its own: exit codes,
// pipes and signals are those that a shell sees. Each script has topics of its own.
func TestScripts(t *testing.T) {
	p := startNode(t, devConfig(t.TempDir()), testDeps(t.Output()))
	waitNode(t, p)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TIDEMARK_SERVER", p.URL())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "sorted": sorted},
	})
}

// exits runs a command and compares its exit code, which `! exec` does not tell: exits CODE COMMAND [ARGUMENT]...
// Standard input is the file set by `stdin`, through the shell.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT]...")
	}
	quoted := make([]string, len(args)-1)
	for i, a := range args[1:] {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	input := ts.MkAbs("input")
	if _, err := os.Stat(input); err != nil {
		input = os.DevNull
	}
	script := fmt.Sprintf("%s < '%s' > stdout.txt 2> stderr.txt; echo $? > code.txt", strings.Join(quoted, " "), input)
	ts.Check(ts.Exec("sh", "-c", script))
	if code := strings.TrimSpace(ts.ReadFile("code.txt")); code != args[0] {
		ts.Fatalf("exit %s, want %s\n%s%s", code, args[0], ts.ReadFile("stdout.txt"), ts.ReadFile("stderr.txt"))
	}
}

// sorted compares two files as sets of lines: sorted FILE FILE.
func sorted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sorted FILE FILE")
	}
	ts.Check(ts.Exec("sh", "-c", fmt.Sprintf("LC_ALL=C sort '%s' > a.sorted; LC_ALL=C sort '%s' > b.sorted; cmp a.sorted b.sorted", ts.MkAbs(args[0]), ts.MkAbs(args[1]))))
}
