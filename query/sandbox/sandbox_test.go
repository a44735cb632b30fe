package sandbox

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// recordedTree is a text and what the engine's parser said of it.
type recordedTree struct{ sql, tree string }

func recorded(tb testing.TB) []recordedTree {
	tb.Helper()
	text, err := os.ReadFile("testdata/trees.txt")
	if err != nil {
		tb.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var all []recordedTree
	for pair := range slices.Chunk(lines, 2) {
		all = append(all, recordedTree{pair[0], pair[1]})
	}
	if len(all) < 50 {
		tb.Fatalf("only %d recorded trees", len(all))
	}
	return all
}

func decode(tb testing.TB, tree string) any {
	tb.Helper()
	d := json.NewDecoder(strings.NewReader(tree))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func encode(tb testing.TB, v any) []byte {
	tb.Helper()
	tree, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return tree
}

// objects lists every object of a tree, the answer around the statement left out.
func objects(v any) []node {
	var all []node
	switch v := v.(type) {
	case node:
		if _, ok := v["statements"]; !ok {
			all = append(all, v)
		}
		for _, name := range sortedKeys(v) {
			all = append(all, objects(v[name])...)
		}
	case []any:
		for _, e := range v {
			all = append(all, objects(e)...)
		}
	}
	return all
}

func sortedKeys(n node) []string {
	names := make([]string, 0, len(n))
	for name := range n {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// The walk is total: an unknown field, a missing one, or an unknown word in any object of any tree is refused.
func TestNothingInATreeIsOverlooked(t *testing.T) {
	changed := 0
	for _, r := range recorded(t) {
		top := decode(t, r.tree)
		if _, err := Check(r.sql, encode(t, top)); err != nil {
			t.Fatalf("%s: %v", r.sql, err)
		}
		refused := func(what string) {
			t.Helper()
			changed++
			if _, err := Check(r.sql, encode(t, top)); err == nil {
				t.Errorf("%s: passes with %s", r.sql, what)
			}
		}
		all := objects(top)
		step := 1 + len(r.tree)/500 // fewer of the long trees, which take longer
		for i := 0; i < len(all); i += step {
			o := all[i]
			o["new_field"] = node{"class": "FUNCTION"}
			refused("a new field")
			o["new_field"] = nil
			refused("a new field that is null")
			delete(o, "new_field")
			for _, name := range sortedKeys(o) {
				old := o[name]
				if name == "value" && o["is_null"] != nil || name == "column" || name == "months" || name == "days" || name == "micros" {
					continue
				}
				delete(o, name)
				refused("no " + name)
				o[name] = old
				if s, ok := old.(string); ok && (name == "type" || name == "class" || name == "id" || name == "function_name") && s != "" {
					o[name] = "SOMETHING_NEW"
					refused("another " + name + " than " + s)
					o[name] = old
				}
				if old == nil || name == "sample" {
					o[name] = node{"class": "FUNCTION", "type": "FUNCTION", "function_name": "getenv"}
					refused("a call of getenv as " + name)
					o[name] = old
				}
				if list, ok := old.([]any); ok {
					o[name] = append(slices.Clone(list), node{"class": "FUNCTION", "type": "FUNCTION", "function_name": "getenv"})
					refused("a call of getenv in " + name)
					o[name] = old
				}
			}
		}
	}
	t.Logf("%d changed trees", changed)
	if changed < 2_000 {
		t.Errorf("only %d changed trees", changed)
	}
}

// Where the tree's places do not fit the text, nothing is guessed.
func TestPlacesThatDoNotFitAreRefused(t *testing.T) {
	const sql = `SELECT * FROM orders AS o`
	tree := func(place, name string) string {
		for _, r := range recorded(t) {
			if r.sql == "SELECT * FROM t" {
				return strings.NewReplacer(`"query_location":14`, `"query_location":`+place, `"table_name":"t"`, `"table_name":"`+name+`"`).Replace(r.tree)
			}
		}
		t.Fatal("no recorded tree of SELECT * FROM t")
		return ""
	}
	if s, err := Check(sql, []byte(tree("14", "orders"))); err != nil || len(s.References) != 1 {
		t.Errorf("the right place: %+v, %v", s, err)
	}
	for _, place := range []string{"13", "15", "0", "24", "25", "1000", "18446744073709551615", "-1", "1.5", "1e3", "99999999999999999999999"} {
		_, err := Check(sql, []byte(tree(place, "orders")))
		if r, ok := errors.AsType[*Refusal](err); !ok || r.Reason != Unsupported {
			t.Errorf("place %s: %v", place, err)
		}
	}
	if _, err := Check(sql, []byte(tree("14", "duckdb_settings"))); err == nil {
		t.Error("another name passes")
	}
}

func TestAnswersThatAreNoTrees(t *testing.T) {
	for _, c := range []struct{ tree, reason string }{
		{``, Unsupported}, {`null`, Empty}, {`[]`, Unsupported}, {`{"error":false,"statements":[]}`, Empty}, {`{"error":false,"statements":[{}]}`, Unsupported},
		{`{"error":false,"statements":[{"node":null,"named_param_map":[]}]}`, Unsupported}, {`{"error":false,"statements":[null]}`, Unsupported},
		{`{"error":false,"statements":[{},{}]}`, NotOneStatement}, {`{"error":false,"statements":[]} x`, Unsupported}, {`{"statements":[1]}`, Unsupported},
		{`{"error":true,"error_type":"parser","error_message":"x","position":"99999"}`, Syntax}, {`{"error":true}`, Unsupported},
		{`{"error":true,"error_type":"parser","error_message":"memory exhausted","position":"-5"}`, TooLarge},
		{strings.Repeat(`{"statements":[`, 20_000), Unsupported},
	} {
		_, err := Check("SELECT 1", []byte(c.tree))
		r, ok := errors.AsType[*Refusal](err)
		if !ok || r.Reason != c.reason || r.Position > 8 {
			t.Errorf("%.60s: %+v, want %s", c.tree, r, c.reason)
		}
	}
}

func TestStrip(t *testing.T) {
	for _, c := range []struct {
		sql, body string
		kind      Explain
		reason    string
	}{
		{"SELECT 1", "SELECT 1", ExplainNone, ""},
		{"EXPLAIN SELECT 1", " SELECT 1", ExplainPlan, ""},
		{"/* a */ -- b\n explain/* c */analyze/**/SELECT 1", "/**/SELECT 1", ExplainAnalyze, ""},
		{"EXPLAIN(SELECT 1)", "(SELECT 1)", ExplainPlan, ""},
		{"EXPLAIN analyse FROM t", " FROM t", ExplainAnalyze, ""},
		{"EXPLAIN", "", ExplainPlan, ""},
		{`"EXPLAIN" SELECT`, `"EXPLAIN" SELECT`, ExplainNone, ""},
		{"EXPLAINED", "EXPLAINED", ExplainNone, ""},
		{"EXPLAIN (FORMAT json) SELECT 1", "", ExplainNone, Unsupported},
		{"EXPLAIN VERBOSE SELECT 1", "", ExplainNone, Unsupported},
		{"EXPLAIN EXPLAIN SELECT 1", "", ExplainNone, StatementNotAllowed},
		{"EXPLAIN ANALYZE EXPLAIN SELECT 1", "", ExplainNone, StatementNotAllowed},
		{"", "", ExplainNone, ""},
		{"/* open", "/* open", ExplainNone, ""},
		{"EXPLAIN 'open", " 'open", ExplainPlan, ""},
	} {
		kind, body, offset, err := Strip(c.sql)
		if c.reason != "" {
			if r, ok := errors.AsType[*Refusal](err); !ok || r.Reason != c.reason {
				t.Errorf("%q: %v, want %s", c.sql, err, c.reason)
			}
			continue
		}
		if err != nil || kind != c.kind || body != c.body || c.sql[offset:] != body {
			t.Errorf("%q: %d, %q, %d, %v", c.sql, kind, body, offset, err)
		}
	}
}

func TestRewriteMapsPlacesBack(t *testing.T) {
	for _, r := range recorded(t) {
		if r.sql != `SELECT * FROM system.topics s JOIN main.t ON true` {
			continue
		}
		s, err := Check(r.sql, []byte(r.tree))
		if err != nil {
			t.Fatal(err)
		}
		text, back := s.Rewrite(r.sql, func(n int, _ Reference) string { return "f(" + string(rune('0'+n)) + ")" })
		if want := `SELECT * FROM f(0) s JOIN f(1) AS "t" ON true`; text != want {
			t.Fatalf("rewritten to %q, want %q", text, want)
		}
		for _, c := range []struct{ of, is string }{{"SELECT", "SELECT"}, {"f(0)", "system"}, {"(0)", "system"}, {" s JOIN", " s JOIN"}, {"f(1)", "main.t"},
			{`AS "t"`, "main.t"}, {" ON", " ON"}, {"true", "true"}} {
			if got, want := back(strings.Index(text, c.of)), strings.Index(r.sql, c.is); got != want {
				t.Errorf("%q comes from %d, want %d", c.of, got, want)
			}
		}
		if back(-1) != -1 || back(len(text)+1) != -1 || back(len(text)) != len(r.sql) {
			t.Errorf("the ends: %d, %d, %d", back(-1), back(len(text)+1), back(len(text)))
		}
		return
	}
	t.Fatal("no recorded tree")
}

func TestLineColumn(t *testing.T) {
	const sql = "SELECT\n é, x\nFROM"
	for position, want := range map[int][2]int{0: {1, 1}, 6: {1, 7}, 7: {2, 1}, 10: {2, 3}, len(sql): {3, 5}, -1: {0, 0}, len(sql) + 1: {0, 0}} {
		if line, column := LineColumn(sql, position); line != want[0] || column != want[1] {
			t.Errorf("position %d is at %d:%d, want %v", position, line, column, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"orders", "Payments", "a", "access-log"}
	for name, want := range map[string]string{"ordres": "orders", "ORDERS": "orders", "payment": "Payments", "xyz": "", "": "", "acess_log": "access-log",
		strings.Repeat("o", 10_000): "", "b": "a"} {
		if got := Nearest(name, known); got != want {
			t.Errorf("nearest to %.20q is %q, want %q", name, got, want)
		}
	}
}

func TestPrecheckCountsWhatIsOutsideOfQuotes(t *testing.T) {
	for _, ok := range []string{
		"SELECT '" + strings.Repeat("(", 10_000) + "'", "SELECT 1 -- " + strings.Repeat("/*", 10_000), "SELECT $a$ /* ; ' \" $b$ $a$", `SELECT "and or ; ("`,
		"SELECT '\u00a0\u200b'", "SELECT $$\u00a0$$", strings.Repeat("/*", maxComments) + strings.Repeat("*/", maxComments), "SELECT E'\\\\' -- '",
		"SELECT 1;;;", "SELECT a$b$c FROM t",
	} {
		if err := Precheck(ok); err != nil {
			t.Errorf("%.60q: %v", ok, err)
		}
	}
	for text, reason := range map[string]string{
		strings.Repeat("[", maxBrackets+1): TooLarge, "SELECT 1" + strings.Repeat(",1", maxTokens): TooLarge, strings.Repeat("x", MaxSQL+1): TooLarge,
		"SELECT E'\\'": Syntax, "SELECT E'a'\n'\\' ; SELECT 1": Syntax, "SELECT 'a'\n'\\' ; SELECT 1": NotOneStatement, "SELECT \u2003 1": Syntax,
		"SELECT a\u200b FROM t": Syntax, "SELECT 1 -- \u00a0": Syntax,
	} {
		r, ok := errors.AsType[*Refusal](Precheck(text))
		if !ok || r.Reason != reason {
			t.Errorf("%.60q: %+v, want %s", text, r, reason)
		}
	}
}
