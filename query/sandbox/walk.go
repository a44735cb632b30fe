package sandbox

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// node is an object of the tree.
type node = map[string]any

// walker goes through a tree once. It refuses what is not listed, and notes the tables.
type walker struct {
	sql   string
	nodes int
	joins int
	scope *scope
	// tableFunction is set while the function of FROM f(…) itself is walked.
	tableFunction bool
	// shows says that SHOW TABLES may stand where the walk is: as the whole statement.
	shows                                   bool
	expressions, queries, subqueries, types int
	making                                  int // makers around
	tables                                  []baseTable
}

// baseTable is a reference as the tree has it.
type baseTable struct {
	schema, name, alias string
	location            int
}

// walk checks every field of a node against its shape.
func (w *walker) walk(what string, n node, s shape) *Refusal {
	for i := range s {
		f := &s[i]
		value, ok := n[f.name]
		if !ok {
			return w.unknown("%s without its field %s", what, f.name)
		}
		if r := w.field(what, f, value); r != nil {
			return r
		}
	}
	if len(n) != len(s) {
		var more []string
		for name := range n {
			if !slices.ContainsFunc(s, func(f field) bool { return f.name == name }) {
				more = append(more, name)
			}
		}
		slices.Sort(more)
		return w.unknown("%s with a field %s", what, more[0])
	}
	return nil
}

func (w *walker) unknown(format string, args ...any) *Refusal {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = shown(s)
		}
	}
	return refuse(Unsupported, -1, "", "The statement uses something that queries may not: "+format+".", args...)
}

func (w *walker) field(what string, f *field, value any) *Refusal {
	bad := func() *Refusal { return w.unknown("%s with another %s", what, f.name) }
	switch f.holds {
	case anyText, noText, oneOf:
		s, ok := value.(string)
		switch {
		case !ok || f.holds == noText && s != "":
			return bad()
		case f.holds == oneOf && !f.words[s]:
			return w.unknown("%s of kind %s", what, s)
		}
	case anyFlag, noFlag:
		if b, ok := value.(bool); !ok || f.holds == noFlag && b {
			return bad()
		}
	case anyNumber:
		if _, ok := value.(json.Number); !ok {
			return bad()
		}
	case anyTexts:
		list, ok := value.([]any)
		if !ok {
			return bad()
		}
		for _, v := range list {
			if _, ok := v.(string); !ok {
				return bad()
			}
		}
	case nothing:
		if value != nil {
			if list, ok := value.([]any); !ok || len(list) > 0 {
				return bad()
			}
		}
	case numberSets:
		return w.numberSets(value, bad)
	case maybeExpression, maybeQuery, sample:
		if value == nil {
			return nil
		}
		return w.nodeField(f, value, bad)
	case expression, query, recursion, subquery, tableRef, orderModifier, ctes, dataType:
		return w.nodeField(f, value, bad)
	case constant:
		return w.constant(value)
	default:
		list, ok := value.([]any)
		if !ok {
			return bad()
		}
		for _, v := range list {
			if r := w.element(what, f, v, bad); r != nil {
				return r
			}
		}
	}
	return nil
}

// nodeField walks a field that holds one node.
func (w *walker) nodeField(f *field, value any, bad func() *Refusal) *Refusal {
	n, ok := value.(node)
	if !ok {
		return bad()
	}
	switch f.holds {
	case expression, maybeExpression:
		return w.expression(n)
	case query, maybeQuery:
		return w.query(n)
	case subquery:
		return w.walk("a subquery", n, statementShape)
	case tableRef:
		return w.table(n)
	case orderModifier:
		if n["type"] != "ORDER_MODIFIER" {
			return bad()
		}
		return w.walk("ORDER BY", n, modifierShapes["ORDER_MODIFIER"])
	case sample:
		return w.walk("a sample", n, sampleShape)
	case dataType:
		return w.dataType(n)
	case ctes, recursion:
		return nil // walked by query, before the other fields and after them
	default:
		return bad()
	}
}

// element walks one element of a field that holds a list.
func (w *walker) element(what string, f *field, value any, bad func() *Refusal) *Refusal {
	if f.holds == rowsOfExpressions {
		row, ok := value.([]any)
		if !ok {
			return bad()
		}
		return w.field(what, &field{f.name, expressions, nil}, row)
	}
	n, ok := value.(node)
	if !ok {
		return bad()
	}
	switch f.holds {
	case expressions:
		return w.expression(n)
	case keyedExpressions:
		return w.walk("REPLACE", n, keyedShape)
	case caseChecks:
		return w.walk("CASE", n, caseShape)
	case orders:
		return w.walk("ORDER BY", n, orderShape)
	case modifiers:
		kind, _ := n["type"].(string)
		s, ok := modifierShapes[kind]
		if !ok {
			return w.unknown("%s", kind)
		}
		return w.walk(kind, n, s)
	case pivots:
		if f.name == "entries" {
			return w.walk("PIVOT", n, entryShape)
		}
		if enum, _ := n["pivot_enum"].(string); enum != "" {
			return refuse(Unsupported, -1, "List the values: PIVOT … ON column IN (value, …).", "PIVOT takes its values from an enum, and there are none.")
		}
		return w.walk("PIVOT", n, pivotShape)
	case columnNames:
		return w.walk("EXCLUDE", n, columnNameShape)
	case renames:
		key, ok := n["key"].(node)
		if _, isText := n["value"].(string); !ok || !isText || len(n) != 2 {
			return bad()
		}
		return w.walk("RENAME", key, columnNameShape)
	case dataTypes:
		if second, ok := n["second"].(node); ok && len(n) == 2 {
			if _, ok := n["first"].(string); !ok {
				return bad()
			}
			return w.dataType(second)
		}
		return w.dataType(n)
	default:
		return bad()
	}
}

func (w *walker) numberSets(value any, bad func() *Refusal) *Refusal {
	sets, ok := value.([]any)
	if !ok {
		return bad()
	}
	for _, set := range sets {
		numbers, ok := set.([]any)
		if !ok {
			return bad()
		}
		for _, n := range numbers {
			if _, ok := n.(json.Number); !ok {
				return bad()
			}
		}
	}
	return nil
}

// count refuses a tree with too many nodes.
func (w *walker) count() *Refusal {
	if w.nodes++; w.nodes > maxNodes {
		return refuse(TooLarge, -1, "", "The statement has more than %d parts.", maxNodes)
	}
	return nil
}

func (w *walker) expression(n node) *Refusal {
	if r := w.count(); r != nil {
		return r
	}
	if w.expressions++; w.expressions > maxExpressionDepth {
		return refuse(TooLarge, location(n), "", "Expressions stand more than %d deep one inside the other.", maxExpressionDepth)
	}
	defer func() { w.expressions-- }()
	class, _ := n["class"].(string)
	s, ok := expressionShapes[class]
	isTableFunction := w.tableFunction
	w.tableFunction = false
	switch {
	case class == "PARAMETER":
		return refuse(Unsupported, location(n), "Put the value into the statement.", "Parameters such as ? and $1 have no value here.")
	case !ok:
		return w.unknown("an expression %s", class)
	case isTableFunction && class != "FUNCTION":
		return w.unknown("an expression %s as a table", class)
	case class == "FUNCTION" || class == "WINDOW":
		if r := w.function(n, isTableFunction); r != nil {
			return r
		}
		if name, _ := n["function_name"].(string); !isTableFunction && makers[fold(name)] {
			if w.making++; w.making > maxMaking {
				return refuse(TooLarge, location(n), "Make the inner ones in a WITH.", "Functions such as %s stand more than %d deep one inside the other.", shown(name), maxMaking)
			}
			defer func() { w.making-- }()
		}
	case class == "SUBQUERY":
		if w.subqueries++; w.subqueries > maxSubqueryDepth {
			return refuse(TooLarge, location(n), "Move some of them into WITH.", "Subqueries stand more than %d deep one inside the other.", maxSubqueryDepth)
		}
		defer func() { w.subqueries-- }()
	}
	return w.walk(class, n, s)
}

func (w *walker) function(n node, isTable bool) *Refusal {
	name, _ := n["function_name"].(string)
	schema, _ := n["schema"].(string)
	catalog, _ := n["catalog"].(string)
	if catalog != "" || schema != "" && fold(schema) != "main" {
		return refuse(FunctionNotAllowed, location(n), "Write "+shown(name)+"(…), with what stands before the dot as the first argument.",
			"Functions of a schema cannot be called, and %s is called with one.", shown(name))
	}
	allowed := allowedFunctions
	if isTable {
		allowed = tableFunctions
	}
	if allowed[fold(name)] {
		if pattern := fold(name); !isTable && (pattern == "format" || pattern == "printf") {
			return w.pattern(n, name)
		}
		return nil
	}
	place, next := "", ""
	if isTable {
		place = " in FROM"
	}
	if _, denied := deniedFunctions[fold(name)]; !denied {
		if near := Nearest(name, functionNames); near != "" {
			next = "Was " + near + " meant?"
		}
	}
	return refuse(FunctionNotAllowed, location(n), next, "The function %s may not be called%s.", shown(name), place)
}

// makers are the functions that the engine has as macros, which look at the size of what is made: they name their arguments several times,
// so that each level multiplies what stands inside.
var makers = map[string]bool{
	"repeat": true, "lpad": true, "rpad": true, "list_resize": true, "array_resize": true, "range": true, "generate_series": true, "bitstring": true,
}

// widePattern is a width or precision of four digits and more, or one that an argument gives, in a pattern without {{ and }}.
var widePattern = regexp.MustCompile(`\{[^}]*(?:[0-9]{4}|\{)|%[-+ #0-9.]*(?:[0-9]{4}|\*)`)

// pattern holds the patterns of format and printf to widths that are written and small: the engine makes a text as wide as they say, out of
// nothing and outside its limits.
func (w *walker) pattern(n node, name string) *Refusal {
	children, _ := n["children"].([]any)
	if len(children) == 0 {
		return nil // the engine says what is missing
	}
	first, _ := children[0].(map[string]any)
	value, _ := first["value"].(map[string]any)
	text, isText := value["value"].(string)
	if class, _ := first["class"].(string); class != "CONSTANT" || !isText {
		return refuse(FunctionNotAllowed, location(n), "", "The pattern of %s must be written as a text.", shown(name))
	}
	if widePattern.MatchString(strings.NewReplacer("{{", "", "}}", "").Replace(text)) {
		return refuse(FunctionNotAllowed, location(n), "", "A width in the pattern of %s is written, and below 1,000.", shown(name))
	}
	return nil
}

func (w *walker) query(n node) *Refusal {
	if r := w.count(); r != nil {
		return r
	}
	if w.queries++; w.queries > maxQueryDepth {
		return refuse(TooLarge, -1, "", "Queries and joins stand more than %d deep one inside the other.", maxQueryDepth)
	}
	defer func() { w.queries-- }()
	kind, _ := n["type"].(string)
	s, ok := queryShapes[kind]
	if !ok {
		return w.unknown("a query %s", kind)
	}
	outer := w.scope
	defer func() { w.scope = outer }()
	shows := w.shows
	w.shows = false
	if r := w.ctes(n); r != nil {
		return r
	}
	w.shows = shows && isWholeShow(n)
	defer func() { w.shows = false }()
	if r := w.walk(kind, n, s); r != nil || kind != "RECURSIVE_CTE_NODE" {
		return r
	}
	// A recursive query sees itself in its second part, not in the first, which it begins with.
	name, _ := n["cte_name"].(string)
	keys, _ := n["key_targets"].([]any)
	w.scope = &scope{outer: w.scope, name: fold(name), keyed: len(keys) > 0}
	right, _ := n["right"].(node)
	return w.query(right)
}

func (w *walker) table(n node) *Refusal {
	if r := w.count(); r != nil {
		return r
	}
	if w.queries++; w.queries > maxQueryDepth {
		return refuse(TooLarge, location(n), "", "Queries and joins stand more than %d deep one inside the other.", maxQueryDepth)
	}
	defer func() { w.queries-- }()
	shows := w.shows
	w.shows = false
	kind, _ := n["type"].(string)
	s, ok := tableShapes[kind]
	switch {
	case !ok:
		return w.unknown("a table %s", kind)
	case kind == "BASE_TABLE":
		if r := w.baseTable(n); r != nil {
			return r
		}
	case kind == "TABLE_FUNCTION":
		w.tableFunction = true
	case kind == "JOIN":
		if w.joins++; w.joins > maxJoins {
			return refuse(TooLarge, location(n), "", "The statement joins more than %d tables.", maxJoins+1)
		}
	case kind == "SHOW_REF":
		if r := w.show(n, shows); r != nil {
			return r
		}
	}
	return w.walk(kind, n, s)
}

func (w *walker) baseTable(n node) *Refusal {
	t := baseTable{location: location(n)}
	t.name, _ = n["table_name"].(string)
	t.alias, _ = n["alias"].(string)
	t.schema, _ = n["schema_name"].(string)
	catalog, _ := n["catalog_name"].(string)
	if n["at_clause"] != nil {
		return refuse(Unsupported, t.location, "Name a position for the whole query.", "Tables have no AT clause here.")
	}
	schema := fold(t.schema)
	switch {
	case catalog != "":
		return refuse(TableNotAllowed, t.location, `If the dots are part of the name, quote all of it: "`+shown(catalog+"."+t.schema+"."+t.name)+`".`,
			"There are no databases to choose from, and %s names one.", shown(catalog+"."+t.schema+"."+t.name))
	case schema == "" && w.scope.find(fold(t.name)) != nil:
		return nil
	case schema == "recurring":
		if s := w.scope.find(fold(t.name)); s != nil && s.keyed {
			return nil
		}
	case schema == "main":
		schema = ""
	}
	if schema != "" && schema != "system" {
		return refuse(TableNotAllowed, t.location, `If the dot is part of the name, quote all of it: "`+shown(t.schema+"."+t.name)+`".`,
			"There is no schema %s: topics have none, and the cluster's own tables are in system.", shown(t.schema))
	}
	t.schema = schema
	w.tables = append(w.tables, t)
	return nil
}

// show checks DESCRIBE, SUMMARIZE and SHOW, which are tables to the engine.
func (w *walker) show(n node, whole bool) *Refusal {
	kind, _ := n["show_type"].(string)
	name, _ := n["table_name"].(string)
	switch {
	case (kind == "DESCRIBE" || kind == "SUMMARY") && n["query"] != nil && name == "":
		return nil
	case kind == "SHOW_UNQUALIFIED" && n["query"] == nil && showTables[name]:
		if whole {
			return nil
		}
		return refuse(StatementNotAllowed, -1, "", "SHOW TABLES is a statement of its own here, and no table of another.")
	case kind == "SHOW_FROM":
		return refuse(StatementNotAllowed, -1, "Write SHOW TABLES.", "SHOW TABLES takes no FROM here.")
	case kind == "SHOW_UNQUALIFIED":
		return refuse(StatementNotAllowed, -1, "Write SHOW TABLES or DESCRIBE table.", "SHOW %s is not allowed.", shown(unquote(name)))
	}
	return w.unknown("%s", kind)
}

// showTables are the engine's names for SHOW TABLES and SHOW ALL TABLES.
var showTables = map[string]bool{`"tables"`: true, "__show_tables_expanded": true}

func unquote(name string) string {
	if len(name) >= 2 && name[0] == '"' && name[len(name)-1] == '"' {
		return name[1 : len(name)-1]
	}
	return name
}

// location is a node's place in the text, -1 when it has none.
func location(n node) int {
	number, _ := n["query_location"].(json.Number)
	at, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil || at > MaxSQL {
		return -1
	}
	return int(at)
}
