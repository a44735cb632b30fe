// Package tools holds the programs that build and check Tidemark, and the test that their versions agree.
package tools

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// versions reads name and version of every tool.
func versions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("versions")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for s := range strings.Lines(string(text)) {
		if strings.HasPrefix(s, "#") || strings.TrimSpace(s) == "" {
			continue
		}
		fields := strings.Fields(s)
		if len(fields) != 3 {
			t.Fatalf("tools/versions: %q is not name, package, version", s)
		}
		found[fields[0]] = fields[2]
	}
	return found
}

// TestGeneratorsMatchLibraries holds what generates code to the version of the library that the code is compiled with.
func TestGeneratorsMatchLibraries(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	have := versions(t)
	for tool, module := range map[string]string{
		"protoc-gen-go":         "google.golang.org/protobuf",
		"protoc-gen-connect-go": "connectrpc.com/connect",
	} {
		if want := module + " " + have[tool]; !strings.Contains(string(mod), want+"\n") {
			t.Errorf("tools/versions has %s %s, but go.mod does not require %q", tool, have[tool], want)
		}
	}
}

// TestMinIOMatchesTests holds the tests that start MinIO, which look for it by name and version, to what is built here.
func TestMinIOMatchesTests(t *testing.T) {
	pseudo := regexp.MustCompile(`"v0\.0\.0-20\d{12}-[0-9a-f]{12}"`)
	want := `"` + versions(t)["minio"] + `"`
	named := 0
	err := filepath.WalkDir("../tier/tiertest", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		text, err := os.ReadFile(name)
		for _, got := range pseudo.FindAllString(string(text), -1) {
			named++
			if got != want {
				t.Errorf("%s names MinIO %s, but tools/versions has %s", name, got, want)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if named == 0 {
		t.Error("nothing in tier/tiertest names a version of MinIO")
	}
}
