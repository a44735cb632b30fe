package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/clock"
)

// testApp is an app with streams of its own and no environment.
type testApp struct {
	app
	out, err bytes.Buffer
}

func newTestApp(environ ...string) *testApp {
	t := &testApp{}
	t.app = app{
		stdin: strings.NewReader(""), stdout: &t.out, stderr: &t.err,
		environ: func() []string { return environ },
		clock:   clock.System(),
	}
	return t
}

func (a *testApp) exec(args ...string) int { return a.run(context.Background(), args) }

func TestSettingLayers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tidemark.yaml")
	if err := os.WriteFile(file, []byte("server: http://file:1\noutput: csv\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		want    string
	}{
		{"defaults", nil, nil, "server,http://127.0.0.1:8640,default"},
		{"file", nil, []string{"--config", file}, "server,http://file:1,file " + file},
		{"file named by the environment", []string{"TIDEMARK_CONFIG=" + file}, nil, "server,http://file:1,file " + file},
		{"environment over file", []string{"TIDEMARK_SERVER=http://env:2"}, []string{"--config", file}, "server,http://env:2,environment TIDEMARK_SERVER"},
		{"flag over all", []string{"TIDEMARK_SERVER=http://env:2"}, []string{"--config", file, "--server", "http://flag:3"}, "server,http://flag:3,flag --server"},
		{"what Kubernetes sets is not ours", []string{"TIDEMARK_PORT=tcp://10.0.0.1:8640", "TIDEMARK_SERVICE_HOST=10.0.0.1"}, nil, "server,http://127.0.0.1:8640,default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newTestApp(c.environ...)
			if code := a.exec(append([]string{"config", "print", "-o", "csv"}, c.args...)...); code != exitOK {
				t.Fatalf("exit %d: %s", code, &a.err)
			}
			if !strings.Contains(a.out.String(), c.want+"\n") {
				t.Errorf("got %s, want %s", &a.out, c.want)
			}
		})
	}
}

func TestSettingErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		environ []string
		args    []string
		want    []string
	}{
		{[]string{"TIDEMARK_SEVER=x"}, nil, []string{`unknown setting "TIDEMARK_SEVER" in the environment`, "did you mean TIDEMARK_SERVER?"}},
		{nil, []string{"--config", write("typo", "serverr: x")}, []string{`unknown setting "serverr" in `, "did you mean server?"}},
		{nil, []string{"--config", write("other", "colour: red")}, []string{`unknown setting "colour"`, "lists the settings there are"}},
		{nil, []string{"--config", write("section", "server:\n  url: x")}, []string{"setting server from ", "not a section"}},
		{nil, []string{"--config", write("bad", "server: [")}, []string{"read settings from "}},
		{nil, []string{"--config", filepath.Join(dir, "absent")}, []string{"no such file", "check the path"}},
		{[]string{"TIDEMARK_OUTPUT=xml"}, nil, []string{`unknown output format "xml"`}},
	} {
		a := newTestApp(c.environ...)
		if code := a.exec(append([]string{"version"}, c.args...)...); code != exitUsage {
			t.Errorf("%v %v: exit %d", c.environ, c.args, code)
		}
		for _, want := range c.want {
			if !strings.Contains(a.err.String(), want) {
				t.Errorf("%v %v: %q does not say %q", c.environ, c.args, &a.err, want)
			}
		}
		if n := strings.Count(a.err.String(), "\n"); n > 2 {
			t.Errorf("%v %v: %d lines", c.environ, c.args, n)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"topic", "produce", "consume", "serve", "version"}
	for name, want := range map[string]string{
		"topics": "topic", "prodcue": "produce", "consum": "consume", "sevre": "serve", "x": "", "cluster": "", "verson": "version",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
