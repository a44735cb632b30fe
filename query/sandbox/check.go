package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Kind is what a statement is.
type Kind uint8

const (
	// Select is a query.
	Select Kind = iota
	// ShowTables is SHOW TABLES, SHOW ALL TABLES, or SHOW alone: it has no references and nothing to rewrite.
	ShowTables
	// Describe is DESCRIBE of a table or of a query.
	Describe
	// Summarize is SUMMARIZE of a table or of a query.
	Summarize
)

// Statement is a statement that may run once its references are resolved.
type Statement struct {
	Kind Kind
	// References are the tables that are no names of WITH, in order of their places, which are all different and do not overlap.
	References []Reference

	edits []edit
}

// Reference is one mention of a table.
type Reference struct {
	// Schema is "" for topics (main.x is x) and "system" for the cluster's tables.
	Schema string
	// Name is the name without its quotes, as it was written. A file's name in single quotes is a name like any other.
	Name string
	// Alias is the name that the statement gives it; "" when it gives none, and columns are written with Name.
	Alias string
	// Start and End are the bytes of the name in the text, with its schema and quotes.
	Start, End int
}

// Check decides whether a statement may run. The text is one that Precheck let pass, and ast is what DuckDB's json_serialize_sql made of exactly
// that text, as JSON, also when it is an error. An error is a *Refusal. Check may be called from any goroutine, and keeps neither.
func Check(sql string, ast []byte) (*Statement, error) {
	s, r := check(sql, ast)
	if r != nil {
		return nil, r
	}
	return s, nil
}

// answer is what json_serialize_sql returns.
type answer struct {
	Error      bool   `json:"error"`
	Type       string `json:"error_type"`
	Message    string `json:"error_message"`
	Position   string `json:"position"`
	Statements []node `json:"statements"`
}

func check(sql string, ast []byte) (*Statement, *Refusal) {
	if r := precheck(sql); r != nil {
		return nil, r
	}
	if len(ast) > maxTree {
		return nil, refuse(TooLarge, -1, "", "The statement has too many parts.")
	}
	// Counted before the tree is built, which takes twenty times its size. The keys' quotes cannot stand inside of a string.
	if bytes.Count(ast, []byte(`"query_location":`))+bytes.Count(ast, []byte(`"cte_map":`)) > maxNodes ||
		bytes.Count(ast, []byte(`"type_info":`)) > 2*maxNodes {
		return nil, refuse(TooLarge, -1, "", "The statement has more than %d parts.", maxNodes)
	}
	var a answer
	d := json.NewDecoder(bytes.NewReader(ast))
	d.UseNumber()
	if err := d.Decode(&a); err != nil {
		return nil, refuse(Unsupported, -1, "Numbers must not be beyond those of DOUBLE.", "The statement's syntax tree cannot be read.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse(Unsupported, -1, "", "The statement's syntax tree cannot be read.")
	}
	if a.Error {
		return nil, parserRefusal(sql, &a)
	}
	switch len(a.Statements) {
	case 0:
		return nil, refuse(Empty, -1, "", "There is no statement.")
	case 1:
	default:
		return nil, refuse(NotOneStatement, -1, "Send them one by one.", "There is more than one statement.")
	}
	w := walker{sql: sql, shows: true}
	top := a.Statements[0]
	if parameters, ok := top["named_param_map"].([]any); ok && len(parameters) > 0 {
		return nil, refuse(Unsupported, -1, "Put the values into the statement.", "Parameters such as ? and $1 have no value here.")
	}
	if r := w.walk("a statement", top, statementShape); r != nil {
		return nil, r
	}
	s := &Statement{Kind: kindOf(top)}
	if r := s.locate(sql, w.tables); r != nil {
		return nil, r
	}
	return s, nil
}

// isWholeShow says whether a query is what the engine makes of DESCRIBE, SUMMARIZE and SHOW: all columns of one such table, and no more.
func isWholeShow(n node) bool {
	from, _ := n["from_table"].(node)
	list, _ := n["select_list"].([]any)
	more, _ := n["modifiers"].([]any)
	if from["type"] != "SHOW_REF" || len(list) != 1 || len(more) > 0 || n["where_clause"] != nil {
		return false
	}
	star, _ := list[0].(node)
	return star["class"] == "STAR" && location(star) < 0
}

func kindOf(statement node) Kind {
	n, _ := statement["node"].(node)
	if !isWholeShow(n) {
		return Select
	}
	from, _ := n["from_table"].(node)
	switch from["show_type"] {
	case "DESCRIBE":
		return Describe
	case "SUMMARY":
		return Summarize
	}
	return ShowTables
}

// parserRefusal turns the parser's error into words for who wrote the text.
func parserRefusal(sql string, a *answer) *Refusal {
	position := -1
	if n, err := strconv.Atoi(a.Position); err == nil && n >= 0 && n <= len(sql) {
		position = n
	}
	message, _, _ := strings.Cut(a.Message, "\n")
	switch {
	case a.Type == "not implemented" && strings.HasPrefix(a.Message, "Only SELECT statements"):
		return statementRefusal(sql)
	case strings.Contains(message, "memory exhausted") || strings.Contains(message, "expression depth limit") || strings.Contains(message, "grouping set count"):
		return refuse(TooLarge, position, "", "The statement is nested too deep or has too many parts.")
	case a.Type == "parser":
		return refuse(Syntax, position, "", "%s.", sentence(message))
	}
	return refuse(Unsupported, position, "", "%s.", sentence(message))
}

// sentence makes the engine's words one: a capital, no point.
func sentence(message string) string {
	message = strings.TrimRight(shown200(message), ".!")
	if message == "" {
		return "The statement cannot be parsed"
	}
	return strings.ToUpper(message[:1]) + message[1:]
}

func shown200(message string) string {
	const most = 200
	if runes := []rune(message); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return message
}

// statementRefusal names the statement that is no query: its first word.
func statementRefusal(sql string) *Refusal {
	l := lexer{sql: sql}
	t, r := l.next()
	for r == nil && t.kind == tokenSymbol && (sql[t.start] == '(' || sql[t.start] == ';') {
		t, r = l.next()
	}
	if r != nil {
		return r
	}
	first := l.word(t)
	switch first {
	case "":
		return refuse(Empty, -1, "", "There is no statement.")
	case "pivot", "pivot_wider":
		return refuse(Unsupported, t.start, "List the values: PIVOT … ON column IN (value, …).", "PIVOT without its values would need a table of its own.")
	case "explain":
		return refuse(StatementNotAllowed, t.start, "Write EXPLAIN at the front, and once.", "EXPLAIN is not allowed here.")
	case "with", "select", "from":
		// WITH … INSERT and its like, or a PIVOT somewhere inside.
		for r == nil && t.kind != tokenEnd {
			word := l.word(t)
			if slices.Contains([]string{"insert", "update", "delete", "merge", "into"}, word) {
				return refuse(StatementNotAllowed, t.start, "Queries only read: SELECT, SHOW TABLES, DESCRIBE, SUMMARIZE and EXPLAIN.",
					"%s is not allowed.", strings.ToUpper(word))
			}
			if word == "pivot" || word == "pivot_wider" {
				return refuse(Unsupported, t.start, "List the values: PIVOT … ON column IN (value, …).", "PIVOT without its values would need a table of its own.")
			}
			t, r = l.next()
		}
	}
	return refuse(StatementNotAllowed, t.start, "Queries only read: SELECT, SHOW TABLES, DESCRIBE, SUMMARIZE and EXPLAIN.",
		"%s is not allowed.", strings.ToUpper(shown(first)))
}
