package sandbox

// holds is what a field of a node holds, and so how it is walked.
type holds uint8

const (
	anyText holds = iota
	noText        // a text that must be empty
	anyFlag
	noFlag // a flag that must be false
	anyNumber
	anyTexts
	nothing // null, or an empty list
	oneOf   // a word of the field's list
	expression
	maybeExpression
	expressions
	rowsOfExpressions
	keyedExpressions // [{key, value}]
	caseChecks       // [{when_expr, then_expr}]
	orders           // [{type, null_order, expression}]
	orderModifier
	modifiers
	query
	maybeQuery
	recursion // a query that sees the name of the one it stands in
	subquery  // {node, named_param_map}
	ctes      // {map: [{key, value}]}; visited before what sees the names
	tableRef
	sample
	pivots
	constant
	dataType
	dataTypes
	columnNames // [{catalog, schema, table, column}]
	renames     // [{key: {catalog, …}, value}]
	numberSets
)

// field is one field of a kind of node.
type field struct {
	name  string
	holds holds
	words map[string]bool
}

// shape is the list of a node's fields. Every field of a node must be in it, and the other way round.
type shape []field

func words(list ...string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, w := range list {
		m[w] = true
	}
	return m
}

// expressionFields are the fields that every expression begins with.
func expressionShape(types map[string]bool, fields ...field) shape {
	return append(shape{{"class", anyText, nil}, {"type", oneOf, types}, {"alias", anyText, nil}, {"query_location", anyNumber, nil}}, fields...)
}

var comparisons = words("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN", "COMPARE_LESSTHANOREQUALTO",
	"COMPARE_GREATERTHANOREQUALTO", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM")

var boundaries = words("UNBOUNDED_PRECEDING", "UNBOUNDED_FOLLOWING", "CURRENT_ROW_RANGE", "CURRENT_ROW_ROWS", "CURRENT_ROW_GROUPS",
	"EXPR_PRECEDING_ROWS", "EXPR_FOLLOWING_ROWS", "EXPR_PRECEDING_RANGE", "EXPR_FOLLOWING_RANGE", "EXPR_PRECEDING_GROUPS", "EXPR_FOLLOWING_GROUPS")

// expressionShapes are the expressions that may be used, by class. PARAMETER is refused with words of its own.
var expressionShapes = map[string]shape{
	"BETWEEN": expressionShape(words("COMPARE_BETWEEN", "COMPARE_NOT_BETWEEN"),
		field{"input", expression, nil}, field{"lower", expression, nil}, field{"upper", expression, nil}),
	"CASE": expressionShape(words("CASE_EXPR"), field{"case_checks", caseChecks, nil}, field{"else_expr", expression, nil}),
	"CAST": expressionShape(words("OPERATOR_CAST"),
		field{"child", expression, nil}, field{"cast_type", dataType, nil}, field{"try_cast", anyFlag, nil}),
	"COLLATE":     expressionShape(words("COLLATE"), field{"child", expression, nil}, field{"collation", anyText, nil}),
	"COLUMN_REF":  expressionShape(words("COLUMN_REF"), field{"column_names", anyTexts, nil}),
	"COMPARISON":  expressionShape(comparisons, field{"left", expression, nil}, field{"right", expression, nil}),
	"CONJUNCTION": expressionShape(words("CONJUNCTION_AND", "CONJUNCTION_OR"), field{"children", expressions, nil}),
	"CONSTANT":    expressionShape(words("VALUE_CONSTANT"), field{"value", constant, nil}),
	"DEFAULT":     expressionShape(words("VALUE_DEFAULT")),
	"FUNCTION": expressionShape(words("FUNCTION"),
		field{"function_name", anyText, nil}, field{"schema", anyText, nil}, field{"children", expressions, nil},
		field{"filter", maybeExpression, nil}, field{"order_bys", orderModifier, nil}, field{"distinct", anyFlag, nil},
		field{"is_operator", anyFlag, nil}, field{"export_state", noFlag, nil}, field{"catalog", anyText, nil}),
	"LAMBDA": expressionShape(words("LAMBDA"), field{"lhs", expression, nil}, field{"expr", expression, nil}),
	"OPERATOR": expressionShape(words("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "COMPARE_IN", "COMPARE_NOT_IN",
		"OPERATOR_COALESCE", "OPERATOR_NULLIF", "OPERATOR_TRY", "OPERATOR_UNPACK", "GROUPING_FUNCTION", "ARRAY_EXTRACT", "ARRAY_SLICE",
		"STRUCT_EXTRACT", "ARRAY_CONSTRUCTOR"), field{"children", expressions, nil}),
	"POSITIONAL_REFERENCE": expressionShape(words("POSITIONAL_REFERENCE"), field{"index", anyNumber, nil}),
	"STAR": expressionShape(words("STAR"),
		field{"relation_name", anyText, nil}, field{"exclude_list", anyTexts, nil}, field{"replace_list", keyedExpressions, nil},
		field{"columns", anyFlag, nil}, field{"expr", maybeExpression, nil}, field{"qualified_exclude_list", columnNames, nil},
		field{"rename_list", renames, nil}),
	"SUBQUERY": expressionShape(words("SUBQUERY"),
		field{"subquery_type", oneOf, words("SCALAR", "EXISTS", "NOT_EXISTS", "ANY")}, field{"subquery", subquery, nil},
		field{"child", maybeExpression, nil}, field{"comparison_type", oneOf, union(comparisons, words("INVALID"))}),
	"WINDOW": expressionShape(words("WINDOW_AGGREGATE", "WINDOW_RANK", "WINDOW_RANK_DENSE", "WINDOW_NTILE", "WINDOW_PERCENT_RANK",
		"WINDOW_CUME_DIST", "WINDOW_ROW_NUMBER", "WINDOW_FIRST_VALUE", "WINDOW_LAST_VALUE", "WINDOW_LEAD", "WINDOW_LAG", "WINDOW_NTH_VALUE", "WINDOW_FILL"),
		field{"function_name", anyText, nil}, field{"schema", anyText, nil}, field{"catalog", anyText, nil},
		field{"children", expressions, nil}, field{"partitions", expressions, nil}, field{"orders", orders, nil},
		field{"start", oneOf, boundaries}, field{"end", oneOf, boundaries},
		field{"start_expr", maybeExpression, nil}, field{"end_expr", maybeExpression, nil}, field{"offset_expr", maybeExpression, nil},
		field{"default_expr", maybeExpression, nil}, field{"ignore_nulls", anyFlag, nil}, field{"filter_expr", maybeExpression, nil},
		field{"exclude_clause", oneOf, words("NO_OTHER", "CURRENT_ROW", "GROUP", "TIES")}, field{"distinct", anyFlag, nil},
		field{"arg_orders", orders, nil}),
}

func union(a, b map[string]bool) map[string]bool {
	m := make(map[string]bool, len(a)+len(b))
	for w := range a {
		m[w] = true
	}
	for w := range b {
		m[w] = true
	}
	return m
}

func tableShape(fields ...field) shape {
	return append(shape{{"type", anyText, nil}, {"alias", anyText, nil}, {"sample", sample, nil}, {"query_location", anyNumber, nil}}, fields...)
}

// tableShapes are what may stand in FROM, by type. BASE_TABLE and SHOW_REF are looked at besides.
var tableShapes = map[string]shape{
	"BASE_TABLE": tableShape(field{"schema_name", anyText, nil}, field{"table_name", anyText, nil}, field{"column_name_alias", anyTexts, nil},
		field{"catalog_name", anyText, nil}, field{"at_clause", nothing, nil}),
	"EMPTY": tableShape(),
	"EXPRESSION_LIST": tableShape(field{"expected_names", anyTexts, nil}, field{"expected_types", dataTypes, nil},
		field{"values", rowsOfExpressions, nil}),
	"JOIN": tableShape(field{"left", tableRef, nil}, field{"right", tableRef, nil}, field{"condition", maybeExpression, nil},
		field{"join_type", oneOf, words("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI")},
		field{"ref_type", oneOf, words("REGULAR", "NATURAL", "CROSS", "POSITIONAL", "ASOF")}, field{"using_columns", anyTexts, nil},
		field{"delim_flipped", noFlag, nil}, field{"duplicate_eliminated_columns", nothing, nil}),
	"PIVOT": tableShape(field{"source", tableRef, nil}, field{"aggregates", expressions, nil}, field{"unpivot_names", anyTexts, nil},
		field{"pivots", pivots, nil}, field{"groups", anyTexts, nil}, field{"column_name_alias", anyTexts, nil}, field{"include_nulls", anyFlag, nil}),
	"SHOW_REF": tableShape(field{"table_name", anyText, nil}, field{"query", maybeQuery, nil}, field{"show_type", anyText, nil},
		field{"catalog_name", noText, nil}, field{"schema_name", noText, nil}),
	"SUBQUERY": tableShape(field{"subquery", subquery, nil}, field{"column_name_alias", anyTexts, nil}),
	"TABLE_FUNCTION": tableShape(field{"function", expression, nil}, field{"column_name_alias", anyTexts, nil},
		field{"with_ordinality", oneOf, words("WITHOUT_ORDINALITY", "WITH_ORDINALITY")}),
}

func queryShape(fields ...field) shape {
	return append(shape{{"type", anyText, nil}, {"cte_map", ctes, nil}, {"modifiers", modifiers, nil}}, fields...)
}

// queryShapes are the queries, by type.
var queryShapes = map[string]shape{
	"SELECT_NODE": queryShape(field{"select_list", expressions, nil}, field{"from_table", tableRef, nil}, field{"where_clause", maybeExpression, nil},
		field{"group_expressions", expressions, nil}, field{"group_sets", numberSets, nil},
		field{"aggregate_handling", oneOf, words("STANDARD_HANDLING", "NO_AGGREGATES_ALLOWED", "FORCE_AGGREGATES")},
		field{"having", maybeExpression, nil}, field{"sample", sample, nil}, field{"qualify", maybeExpression, nil}),
	"SET_OPERATION_NODE": queryShape(field{"setop_type", oneOf, words("UNION", "EXCEPT", "INTERSECT", "UNION_BY_NAME")},
		field{"left", query, nil}, field{"right", query, nil}, field{"setop_all", anyFlag, nil}),
	"RECURSIVE_CTE_NODE": queryShape(field{"cte_name", anyText, nil}, field{"union_all", anyFlag, nil}, field{"left", query, nil},
		field{"right", recursion, nil}, field{"aliases", anyTexts, nil}, field{"key_targets", expressions, nil}),
}

// modifierShapes are what follows a query: ORDER BY, LIMIT, DISTINCT.
var modifierShapes = map[string]shape{
	"ORDER_MODIFIER":         {{"type", anyText, nil}, {"orders", orders, nil}},
	"LIMIT_MODIFIER":         {{"type", anyText, nil}, {"limit", maybeExpression, nil}, {"offset", maybeExpression, nil}},
	"LIMIT_PERCENT_MODIFIER": {{"type", anyText, nil}, {"limit", maybeExpression, nil}, {"offset", maybeExpression, nil}},
	"DISTINCT_MODIFIER":      {{"type", anyText, nil}, {"distinct_on_targets", expressions, nil}},
}

// Parts of nodes that have no type of their own.
var (
	statementShape  = shape{{"node", query, nil}, {"named_param_map", nothing, nil}}
	cteShape        = shape{{"aliases", anyTexts, nil}, {"query", subquery, nil}, {"materialized", oneOf, materialized}, {"key_targets", expressions, nil}}
	orderShape      = shape{{"type", oneOf, orderTypes}, {"null_order", oneOf, nullOrders}, {"expression", expression, nil}}
	caseShape       = shape{{"when_expr", expression, nil}, {"then_expr", expression, nil}}
	keyedShape      = shape{{"key", anyText, nil}, {"value", expression, nil}}
	columnNameShape = shape{{"catalog", anyText, nil}, {"schema", anyText, nil}, {"table", anyText, nil}, {"column", anyText, nil}}
	sampleShape     = shape{{"sample_size", constant, nil}, {"is_percentage", anyFlag, nil}, {"method", oneOf, sampleMethods}, {"seed", anyNumber, nil}}
	pivotShape      = shape{{"pivot_expressions", expressions, nil}, {"unpivot_names", anyTexts, nil}, {"entries", pivots, nil}, {"pivot_enum", noText, nil}}
	hugeShape       = shape{{"upper", anyNumber, nil}, {"lower", anyNumber, nil}}
	intervalShape   = shape{{"months", anyNumber, nil}, {"days", anyNumber, nil}, {"micros", anyNumber, nil}}
	entryShape      = shape{{"values", constant, nil}, {"star_expr", maybeExpression, nil}, {"alias", anyText, nil}}

	materialized  = words("CTE_MATERIALIZE_DEFAULT", "CTE_MATERIALIZE_ALWAYS", "CTE_MATERIALIZE_NEVER")
	orderTypes    = words("ORDER_DEFAULT", "ASCENDING", "DESCENDING")
	nullOrders    = words("ORDER_DEFAULT", "NULLS FIRST", "NULLS LAST")
	sampleMethods = words("System", "Bernoulli", "Reservoir")
)

// typeShapes are what a type may say besides its name.
var typeShapes = map[string]shape{
	"DECIMAL_TYPE_INFO": typeShape(field{"width", anyNumber, nil}, field{"scale", anyNumber, nil}),
	"STRING_TYPE_INFO":  typeShape(field{"collation", anyText, nil}),
	"LIST_TYPE_INFO":    typeShape(field{"child_type", dataType, nil}),
	"ARRAY_TYPE_INFO":   typeShape(field{"child_type", dataType, nil}, field{"size", anyNumber, nil}),
	"STRUCT_TYPE_INFO":  typeShape(field{"child_types", dataTypes, nil}),
	"GENERIC_TYPE_INFO": typeShape(),
	"UNBOUND_TYPE_INFO": typeShape(field{"name", anyText, nil}, field{"catalog", noText, nil}, field{"schema", noText, nil},
		field{"user_type_modifiers", constant, nil}),
}

func typeShape(fields ...field) shape {
	return append(shape{{"type", anyText, nil}, {"alias", anyText, nil}, {"extension_info", nothing, nil}}, fields...)
}

// typeNames are the types that an expression may be cast to; UNBOUND is one that the engine looks up by name.
var typeNames = words("NULL", "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
	"UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "BLOB", "BIT", "UUID", "DATE", "TIME", "TIME WITH TIME ZONE", "TIME_NS",
	"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "INTERVAL", "STRUCT", "LIST", "ARRAY", "MAP",
	"UNION", "VARIANT", "BIGNUM", "VARINT", "GEOMETRY", "UNBOUND")
