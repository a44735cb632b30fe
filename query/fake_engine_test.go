package query

import (
	"context"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// fakeEngine parses just enough to know tables by their names, and hands a statement to a function.
type fakeEngine struct {
	start func(ctx context.Context, s Statement) (Result, error)

	mu     sync.Mutex
	open   int
	most   int
	sql    []string
	parses int
}

var (
	fromTable  = regexp.MustCompile(`(?i)\b(?:from|join|describe|desc|summarize)\s+((?:"?system"?\.)?)("[^"]+"|[a-z_][a-z0-9_]*)`)
	comment    = regexp.MustCompile(`/\*.*?\*/|--[^\n]*`)
	firstWord  = regexp.MustCompile(`^\s*([A-Za-z]+)`)
	scanCall   = regexp.MustCompile(`tidemark_scan\((\d+)\)`)
	noLocation = json.RawMessage("18446744073709551615")
)

// Parse makes the tree that DuckDB makes of FROM t JOIN u …
func (e *fakeEngine) Parse(_ context.Context, sql string) ([]byte, error) {
	e.mu.Lock()
	e.parses++
	e.mu.Unlock()
	sql = comment.ReplaceAllStringFunc(sql, func(c string) string { return strings.Repeat(" ", len(c)) })
	word := strings.ToLower(firstWord.FindString(sql))
	word = strings.TrimSpace(word)
	failed := func(message string, at int) ([]byte, error) {
		return json.Marshal(map[string]any{"error": true, "error_type": "parser", "error_message": message, "position": strconv.Itoa(at)})
	}
	if word == "selec" {
		return failed(`syntax error at or near "SELEC"`, 0)
	}
	for _, bad := range []string{"access-log", "order"} {
		if at := strings.Index(sql, "FROM "+bad); at >= 0 && !strings.Contains(sql, "FROM orders") {
			return failed("syntax error", at+5+max(0, strings.Index(bad, "-")))
		}
	}
	var from any = map[string]any{"type": "EMPTY", "alias": "", "sample": nil, "query_location": noLocation}
	for i, m := range fromTable.FindAllStringSubmatchIndex(sql, -1) {
		schema, name := strings.Trim(strings.TrimSuffix(sql[m[2]:m[3]], "."), `"`), strings.Trim(sql[m[4]:m[5]], `"`)
		at := m[2]
		table := map[string]any{
			"type": "BASE_TABLE", "alias": "", "sample": nil, "query_location": at, "schema_name": schema, "table_name": name,
			"column_name_alias": []any{}, "catalog_name": "", "at_clause": nil,
		}
		if i == 0 {
			from = table
			continue
		}
		from = map[string]any{
			"type": "JOIN", "alias": "", "sample": nil, "query_location": noLocation, "left": from, "right": table, "condition": nil,
			"join_type": "INNER", "ref_type": "CROSS", "using_columns": []any{}, "delim_flipped": false, "duplicate_eliminated_columns": []any{},
		}
	}
	show := func(kind string, query any, name string) any {
		return map[string]any{
			"type": "SHOW_REF", "alias": "", "sample": nil, "query_location": noLocation, "table_name": name, "query": query,
			"show_type": kind, "catalog_name": "", "schema_name": "",
		}
	}
	node := selectNode(from, json.RawMessage("7"))
	switch word {
	case "show":
		node = selectNode(show("SHOW_UNQUALIFIED", nil, `"tables"`), noLocation)
	case "describe", "desc":
		node = selectNode(show("DESCRIBE", selectNode(from, noLocation), ""), noLocation)
	case "summarize":
		node = selectNode(show("SUMMARY", selectNode(from, noLocation), ""), noLocation)
	}
	return json.Marshal(map[string]any{"error": false, "statements": []any{map[string]any{"node": node, "named_param_map": []any{}}}})
}

func selectNode(from any, star json.RawMessage) map[string]any {
	return map[string]any{
		"type": "SELECT_NODE", "modifiers": []any{}, "cte_map": map[string]any{"map": []any{}},
		"select_list": []any{map[string]any{
			"class": "STAR", "type": "STAR", "alias": "", "query_location": star, "relation_name": "", "exclude_list": []any{}, "replace_list": []any{},
			"columns": false, "expr": nil, "qualified_exclude_list": []any{}, "rename_list": []any{},
		}},
		"from_table": from, "where_clause": nil, "group_expressions": []any{}, "group_sets": []any{}, "aggregate_handling": "STANDARD_HANDLING",
		"having": nil, "sample": nil, "qualify": nil,
	}
}

func (e *fakeEngine) Start(ctx context.Context, s Statement) (Result, error) {
	e.mu.Lock()
	e.sql = append(e.sql, s.SQL)
	e.mu.Unlock()
	start := e.start
	if start == nil {
		start = scanAll
	}
	r, err := start(ctx, s)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.open++
	e.most = max(e.most, e.open)
	e.mu.Unlock()
	return &openResult{Result: r, engine: e}, nil
}

func (e *fakeEngine) Close() error { return nil }

type openResult struct {
	Result

	engine *fakeEngine
	once   sync.Once
}

func (r *openResult) Close() {
	r.once.Do(func() {
		r.Result.Close()
		r.engine.mu.Lock()
		r.engine.open--
		r.engine.mu.Unlock()
	})
}
