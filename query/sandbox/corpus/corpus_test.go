package corpus

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	cases, err := Parse("remarks\n--- OK a name\nSELECT 1\n\n--- SYNTAX\n«3 (»«nested 2 a|b»c«/nested»«hex 00ff»«count 2  x#»\n--- EMPTY\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{{2, OK, "a name", "SELECT 1\n"}, {5, "SYNTAX", "", "(((aacbb\x00\xff x0 x1"}, {7, "EMPTY", "", ""}}
	if !slices.Equal(cases, want) {
		t.Errorf("parsed %+v, want %+v", cases, want)
	}
	for _, bad := range []string{"«3", "«x y»", "«hex 0»", "«nested 3 (»", "«nested 3 (|)» x", "«99999999 x»"} {
		if _, err := Parse("--- OK\n" + bad); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func TestTheCorpusIsWhatItSays(t *testing.T) {
	cases, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	counts := make(map[string]int)
	for _, c := range cases {
		counts[c.Expect]++
		if before, twice := seen[c.SQL]; twice && strings.TrimSpace(c.SQL) != "" {
			t.Errorf("lines %d and %d are the same case", before, c.Line)
		}
		seen[c.SQL] = c.Line
	}
	for _, expect := range []string{OK, Runs, "SYNTAX", "EMPTY", "NOT_ONE_STATEMENT", "STATEMENT_NOT_ALLOWED", "FUNCTION_NOT_ALLOWED", "TABLE_NOT_ALLOWED", "TOO_LARGE", "UNSUPPORTED"} {
		if counts[expect] < 4 {
			t.Errorf("only %d cases expect %s", counts[expect], expect)
		}
		delete(counts, expect)
	}
	if len(counts) > 0 {
		t.Errorf("unknown expectations: %v", counts)
	}
}
