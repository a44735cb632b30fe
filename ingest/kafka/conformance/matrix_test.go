package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The table of clients and features is made of files in results/, each written by one run:
//
//	modules.json   the clients that are Go modules, in continuous integration
//	compat.json    the clients of other languages, and Kafka's own tools
//
// A cell says "ran" when the story ran to its end without a complaint, with a note where the library does not keep all of a record, or why
// the client does not offer the feature.
type results struct {
	Clients []column `json:"clients"`
	// Tools are the commands that ran.
	Tools []tool `json:"tools,omitempty"`
}

type column struct {
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Features map[string]string `json:"features"`
}

type tool struct {
	Name string `json:"name"`
	Does string `json:"does"`
}

const (
	ran         = "ran"
	resultsDir  = "results"
	tablePage   = "../../../docs/kafka.md"
	tableBegins = "<!-- The table of clients, made by make conformance and make compat. -->\n"
	tableEnds   = "<!-- The end of the table of clients. -->\n"
)

// recorder gathers what ran, from any goroutine.
type recorder struct {
	mu      sync.Mutex
	results results
}

func (r *recorder) column(name, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results.Clients = append(r.results.Clients, column{Name: name, Version: version, Features: map[string]string{}})
}

func (r *recorder) cell(name, feature, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.results.Clients {
		if c.Name == name {
			c.Features[feature] = what
		}
	}
}

func (r *recorder) tool(name, does string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results.Tools = append(r.results.Tools, tool{Name: name, Does: does})
}

// settle compares a whole run with the file of the last, or writes it when that is asked for, and the same with the table.
func (r *recorder) settle(t *testing.T, file string) {
	t.Helper()
	b, err := json.MarshalIndent(r.results, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	name := filepath.Join(resultsDir, file)
	if *update {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if kept, err := os.ReadFile(name); err != nil || string(kept) != string(b) {
		t.Errorf("%s is not what ran (%v): run the test with -update and read the difference", name, err)
	}
	checkTable(t)
}

func readResults(t *testing.T) results {
	t.Helper()
	var all results
	for _, file := range []string{"modules.json", "compat.json"} {
		b, err := os.ReadFile(filepath.Join(resultsDir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var one results
		if err == nil {
			err = json.Unmarshal(b, &one)
		}
		if err != nil {
			t.Fatal(err)
		}
		all.Clients = append(all.Clients, one.Clients...)
		all.Tools = append(all.Tools, one.Tools...)
	}
	return all
}

// checkTable holds the table in the documentation to the results.
func checkTable(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile(tablePage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), tableBegins)
	_, after, ended := strings.Cut(rest, tableEnds)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table", tablePage)
	}
	want := before + tableBegins + table(readResults(t)) + tableEnds + after
	switch {
	case string(page) == want:
	case *update:
		if err := os.WriteFile(tablePage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table in %s is not that of %s: run the test with -update", tablePage, resultsDir)
	}
}

// table is the results in Markdown.
func table(all results) string {
	var b strings.Builder
	var notes []string
	b.WriteString("\n| |")
	for _, c := range all.Clients {
		fmt.Fprintf(&b, " %s |", c.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all.Clients)))
	b.WriteString("\n| version |")
	for _, c := range all.Clients {
		fmt.Fprintf(&b, " %s |", c.Version)
	}
	for _, f := range features() {
		fmt.Fprintf(&b, "\n| %s |", f.title)
		for _, c := range all.Clients {
			what, mark := c.Features[f.id], "–"
			if what == "" {
				b.WriteString(" |")
				continue
			}
			if rest, yes := strings.CutPrefix(what, ran); yes {
				what, mark = strings.TrimPrefix(rest, ": "), "✓"
			}
			if what == "" {
				fmt.Fprintf(&b, " %s |", mark)
				continue
			}
			n := slices.Index(notes, what)
			if n < 0 {
				n = len(notes)
				notes = append(notes, what)
			}
			fmt.Fprintf(&b, " %s (%d) |", mark, n+1)
		}
	}
	b.WriteString("\n\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "(%d) %s  \n", i+1, n)
	}
	if len(all.Tools) > 0 {
		b.WriteString("\n| command | what ran |\n|---|---|\n")
		for _, tool := range all.Tools {
			fmt.Fprintf(&b, "| `%s` | %s |\n", tool.Name, tool.Does)
		}
	}
	return b.String() + "\n"
}

// moduleVersion is the version of a module that go.mod requires.
func moduleVersion(t *testing.T, module string) string {
	t.Helper()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` v(\S+)`).FindSubmatch(mod)
	if found == nil {
		t.Fatalf("go.mod does not require %s", module)
	}
	return string(found[1])
}

// The table in the documentation is that of the results that are kept, also of those that this run did not make.
func TestTableIsThatOfTheResults(t *testing.T) { checkTable(t) }
