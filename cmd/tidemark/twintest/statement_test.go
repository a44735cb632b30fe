//go:build cgo

package twintest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// statement is what is asked of both.
type statement struct {
	sql string
	how how
}

// newStatement is statement n of a seed, over the topics as they are.
func newStatement(seed, n uint64, tables []table) statement {
	g := &grammar{Rand: rand.New(rand.NewPCG(seed, n)), tables: tables}
	shape := pick(g.Rand, shapes...)
	sql := shape(g)
	return statement{sql: sql, how: g.how}
}

// shapes are the forms of statements; those that are there twice come twice as often.
var shapes = []func(*grammar) string{
	(*grammar).plain, (*grammar).plain, (*grammar).top, (*grammar).top, (*grammar).star, (*grammar).counts, (*grammar).distinct,
	(*grammar).grouped, (*grammar).grouped, (*grammar).grouped, (*grammar).rolledUp,
	(*grammar).joined, (*grammar).joined, (*grammar).outer, (*grammar).selfJoined, (*grammar).asOf, (*grammar).semi, (*grammar).lateral,
	(*grammar).windowed, (*grammar).windowed, (*grammar).qualified,
	(*grammar).chained, (*grammar).chained, (*grammar).recursive, (*grammar).combined, (*grammar).combined,
	(*grammar).correlated, (*grammar).correlated, (*grammar).scalarSubquery,
	(*grammar).unnested, (*grammar).unnested, (*grammar).nested, (*grammar).overTime, (*grammar).headers, (*grammar).nans, (*grammar).described, (*grammar).wrong,
}

// from is a topic under an alias.
func (g *grammar) from(alias string) *scope { return scopeOf(pick(g.Rand, g.tables...), alias) }

// named lists expressions with names behind them.
func (g *grammar) named(n int, expression func() string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf("%s AS c%d", expression(), i)
	}
	return strings.Join(parts, ", ")
}

func (g *grammar) plain() string {
	s := g.from("t")
	g.how.bits = true
	columns := g.named(1+g.IntN(3), func() string { return g.any(s, 3) })
	if g.IntN(3) == 0 { // names that the engine gives
		columns = g.any(s, 1) + ", " + g.any(s, 2)
	}
	return "SELECT " + columns + " FROM " + s.table + g.where(s, 2)
}

func (g *grammar) top() string {
	s := g.from("t")
	g.how.bits, g.how.ordered = true, true
	limit := fmt.Sprintf(" LIMIT %d", 1+g.IntN(200))
	if g.IntN(2) == 0 {
		limit += fmt.Sprintf(" OFFSET %d", g.IntN(60))
	}
	return "SELECT t._partition, t._offset, " + g.named(1+g.IntN(2), func() string { return g.any(s, 2) }) + " FROM " + s.table + g.where(s, 1) + " " + g.totally(s) + limit
}

func (g *grammar) star() string {
	s := g.from("t")
	g.how.bits = true
	n := pick(g.Rand, 3, 7, 20)
	return pick(g.Rand, "SELECT * FROM ", "FROM ", "SELECT t.* EXCLUDE (_value_bytes) FROM ") + s.table + fmt.Sprintf(" WHERE t._offset %% %d = %d", n, g.IntN(n))
}

func (g *grammar) counts() string {
	s := g.from("t")
	switch g.IntN(4) {
	case 0:
		return "SELECT count(*) FROM " + s.table
	case 1:
		return "SELECT count(*), min(_offset), max(_offset), count(DISTINCT _partition) FROM " + s.table
	case 2:
		return "SELECT _partition, count(*), max(_offset) FROM " + s.table + " GROUP BY ALL"
	default:
		return "SELECT (SELECT count(*) FROM " + s.table + ") AS n, (SELECT count(*) FROM " + g.from("u").table + ")"
	}
}

func (g *grammar) distinct() string {
	s := g.from("t")
	if g.IntN(3) == 0 {
		g.how.ordered = true
		k := g.key(s)
		return fmt.Sprintf("SELECT DISTINCT ON (%s) %s, t._partition, t._offset, %s FROM %s%s ORDER BY %s%s, t._partition, t._offset", k, k, g.any(s, 1), s.table, g.where(s, 1), k, g.direction())
	}
	return "SELECT DISTINCT " + g.key(s) + ", " + g.key(s) + " FROM " + s.table + g.where(s, 1)
}

// aggregates is a list of them.
func (g *grammar) aggregates(s *scope) string {
	return g.named(1+g.IntN(4), func() string { return g.aggregate(s) })
}

func (g *grammar) grouped() string {
	s := g.from("t")
	if g.IntN(4) == 0 {
		return "SELECT " + g.aggregates(s) + " FROM " + s.table + g.where(s, 2)
	}
	keys := []string{g.key(s), g.key(s)}[:1+g.IntN(2)]
	having := ""
	if g.IntN(3) == 0 {
		having = pick(g.Rand, " HAVING count(*) > 2", " HAVING count(*) % 2 = 0", " HAVING max(t._offset) > 10", " HAVING bool_or(t._offset % 5 = 0)")
	}
	return fmt.Sprintf("SELECT %s, %s FROM %s%s GROUP BY %s%s", strings.Join(keys, ", "), g.aggregates(s), s.table, g.where(s, 1), strings.Join(keys, ", "), having)
}

func (g *grammar) rolledUp() string {
	s := g.from("t")
	return fmt.Sprintf("SELECT k, l, grouping(k), grouping(l), count(*), sum(x), min(y) FROM (SELECT %s AS k, %s AS l, %s AS x, %s AS y FROM %s%s) GROUP BY %s",
		g.key(s), g.key(s), g.int(s, 1), g.scalar(s, 1), s.table, g.where(s, 1), pick(g.Rand, "ROLLUP (k, l)", "CUBE (k, l)", "GROUPING SETS ((k), (l), ())"))
}

// thin is a topic of which only some rows are taken, as joins multiply.
func (g *grammar) thin(s *scope) string {
	table, _, _ := strings.Cut(s.table, " AS ")
	n := pick(g.Rand, 5, 11, 17)
	return fmt.Sprintf("(SELECT * FROM %s WHERE _offset %% %d = %d) AS %s", table, n, g.IntN(n), s.alias)
}

// match is how rows of two topics belong together.
func (g *grammar) match(a, b *scope) string {
	ints := []string{"id", "_offset"}
	return fmt.Sprintf("%s.%s = %s.%s", a.alias, pick(g.Rand, ints...), b.alias, pick(g.Rand, ints...))
}

func (g *grammar) joined() string {
	a, b := g.from("a"), g.from("b")
	switch g.IntN(3) {
	case 0:
		return fmt.Sprintf("SELECT %s, %s FROM %s JOIN %s ON %s%s", g.named(1, func() string { return g.any(a, 1) }), g.any(b, 1), g.thin(a), g.thin(b), g.match(a, b), g.where(a, 1))
	case 1:
		return fmt.Sprintf("SELECT count(*), count(%s), sum(%s), max(%s) FROM %s JOIN %s ON %s AND (%s)", g.any(a, 0), g.int(b, 1), g.scalar(b, 1), g.thin(a), g.thin(b), g.match(a, b), g.bool(b, 1))
	default:
		return fmt.Sprintf("SELECT id, count(*), sum(%s), min(%s) FROM %s JOIN %s USING (id)%s GROUP BY id", g.int(a, 1), g.scalar(b, 1), g.thin(a), g.thin(b), g.where(b, 1))
	}
}

func (g *grammar) outer() string {
	a, b := g.from("a"), g.from("b")
	kind := pick(g.Rand, "LEFT", "RIGHT", "FULL")
	if g.IntN(2) == 0 {
		return fmt.Sprintf("SELECT %s IS NULL AS x, b._offset IS NULL AS y, count(*), max(%s), sum(%s) FROM %s %s JOIN %s ON %s GROUP BY ALL",
			"a._offset", g.scalar(a, 1), g.int(b, 1), g.thin(a), kind, g.thin(b), g.match(a, b))
	}
	return fmt.Sprintf("SELECT a._partition, a._offset, %s, b._offset FROM %s %s JOIN %s ON a._offset = b._offset AND a._partition = b._partition", g.any(b, 1), g.thin(a), kind, g.thin(b))
}

func (g *grammar) selfJoined() string {
	s := g.from("a")
	table, _, _ := strings.Cut(s.table, " AS ")
	b := *s
	on := fmt.Sprintf("a._partition = b._partition AND a._offset = b._offset + %s", pick(g.Rand, "1", "2", "0"))
	if g.IntN(2) == 0 {
		return fmt.Sprintf("SELECT count(*), sum(%s), count(b._value) FROM %s AS a %s JOIN %s AS b ON %s", g.int(&b, 1), table, pick(g.Rand, "", "LEFT", "FULL"), table, on)
	}
	return fmt.Sprintf("SELECT a._offset, b._offset, %s FROM %s AS a JOIN %s AS b ON %s%s", g.any(s, 2), table, table, on, g.where(s, 1))
}

func (g *grammar) asOf() string {
	a, b := g.from("a"), g.from("b")
	return fmt.Sprintf("SELECT a._partition, a._offset, b._offset, %s FROM %s ASOF %sJOIN %s ON a._partition = b._partition AND a._offset %s b._offset",
		g.any(b, 1), a.table, pick(g.Rand, "", "LEFT "), g.thin(b), pick(g.Rand, ">=", ">", "<="))
}

func (g *grammar) semi() string {
	a, b := g.from("a"), g.from("b")
	return fmt.Sprintf("SELECT a._partition, a._offset, %s FROM %s %s JOIN %s ON %s%s", g.any(a, 1), a.table, pick(g.Rand, "SEMI", "ANTI"), g.thin(b), g.match(a, b), g.where(a, 1))
}

func (g *grammar) lateral() string {
	a, b := g.from("a"), g.from("b")
	return fmt.Sprintf("SELECT a._offset, l.n, l.m FROM %s, LATERAL (SELECT count(*) AS n, max(%s) AS m FROM %s WHERE %s AND b._offset < a._offset) l", g.thin(a), g.scalar(b, 1), g.thin(b), g.match(a, b))
}

// window is a window function over rows that are in a total order.
func (g *grammar) window(s *scope) string {
	partition := ""
	if g.IntN(3) > 0 {
		partition = "PARTITION BY " + g.key(s) + " "
	}
	if g.IntN(4) == 0 {
		return fmt.Sprintf("%s OVER (%sORDER BY %s%s)", pick(g.Rand, "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "count(*)", "sum("+g.int(s, 1)+")", "max("+g.scalar(s, 1)+")"), partition, g.scalar(s, 1), g.direction())
	}
	if g.IntN(5) == 0 && partition != "" {
		return fmt.Sprintf("%s OVER (%s)", pick(g.Rand, "count(*)", "sum("+g.int(s, 1)+")", "min("+g.scalar(s, 1)+")"), partition)
	}
	function := pick(g.Rand, "row_number()", "ntile(4)", "lag("+g.any(s, 1)+")", "lead("+g.scalar(s, 1)+", 2)", "first_value("+g.any(s, 1)+")", "last_value("+g.scalar(s, 0)+" IGNORE NULLS)",
		"nth_value("+g.scalar(s, 1)+", 3)", "sum("+g.int(s, 1)+")", "count("+g.any(s, 1)+")", "max("+g.scalar(s, 1)+")", "count(DISTINCT "+g.int(s, 0)+")")
	frame := ""
	if !strings.HasPrefix(function, "row_number") && !strings.HasPrefix(function, "ntile") {
		frame = pick(g.Rand, "", "", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", " ROWS BETWEEN 1 FOLLOWING AND 5 FOLLOWING", " ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW")
	}
	return fmt.Sprintf("%s OVER (%s%s%s)", function, partition, g.totally(s), frame)
}

func (g *grammar) windowed() string {
	s := g.from("t")
	return "SELECT t._partition, t._offset, " + g.named(1+g.IntN(2), func() string { return g.window(s) }) + " FROM " + s.table + g.where(s, 1)
}

func (g *grammar) qualified() string {
	s := g.from("t")
	return fmt.Sprintf("SELECT t._partition, t._offset, %s FROM %s%s QUALIFY row_number() OVER (PARTITION BY %s %s) <= %d", g.any(s, 1), s.table, g.where(s, 1), g.key(s), g.totally(s), 1+g.IntN(3))
}

func (g *grammar) chained() string {
	s, u := g.from("t"), g.from("u")
	how := pick(g.Rand, "AS", "AS MATERIALIZED", "AS NOT MATERIALIZED")
	x := fmt.Sprintf("x %s (SELECT t._partition AS p, t._offset AS o, %s AS k, %s AS i, %s AS s FROM %s%s)", how, g.key(s), g.int(s, 2), g.text(s, 2), s.table, g.where(s, 1))
	switch g.IntN(3) {
	case 0:
		return "WITH " + x + ", y AS (SELECT k, count(*) AS n, sum(i) AS total, min(s) AS least FROM x GROUP BY k) SELECT x.p, x.o, y.n, y.total, y.least FROM x JOIN y ON x.k IS NOT DISTINCT FROM y.k"
	case 1:
		return "WITH " + x + fmt.Sprintf(", y AS (SELECT %s AS i, u._offset AS o FROM %s%s) SELECT (SELECT count(*) FROM x) AS n, (SELECT max(i) FROM y) AS m, count(*) FROM x JOIN y ON x.o = y.o AND x.i < y.i", g.int(u, 1), u.table, g.where(u, 1))
	default:
		return "WITH " + x + " SELECT a.p, count(*), max(b.s), sum(b.i) FROM x a JOIN x b ON a.p = b.p AND a.o = b.o + 1 WHERE a.i IS NOT NULL GROUP BY a.p"
	}
}

func (g *grammar) recursive() string {
	s := g.from("t")
	if g.IntN(2) == 0 {
		return fmt.Sprintf("WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < %d) SELECT n, count(t._offset), sum(%s) FROM r LEFT JOIN %s ON t.id = r.n GROUP BY n", 5+g.IntN(40), g.int(s, 1), s.table)
	}
	table, _, _ := strings.Cut(s.table, " AS ")
	return fmt.Sprintf("WITH RECURSIVE c(p, o, depth) AS (SELECT _partition, _offset, 0 FROM %s WHERE _offset < 3 UNION SELECT t._partition, t._offset, depth + 1 FROM %s JOIN c ON t._partition = c.p AND t._offset = c.o * 2 + %s) SELECT depth, count(*), min(o), max(o) FROM c GROUP BY depth",
		table, s.table, pick(g.Rand, "1", "2"))
}

func (g *grammar) combined() string {
	a, b := g.from("a"), g.from("b")
	of := pick(g.Rand, ints, texts, doubles, bools)
	side := func(s *scope) string {
		return fmt.Sprintf("SELECT %s AS x, %s AS y FROM %s%s", g.expr(s, of, 1), g.expr(s, ints, 1), s.table, g.where(s, 1))
	}
	out := side(a) + pick(g.Rand, " UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ", " EXCEPT ALL ", " INTERSECT ALL ") + side(b)
	if g.IntN(3) == 0 {
		return "SELECT count(*), count(x), max(y) FROM (" + out + ")"
	}
	if g.IntN(3) == 0 {
		out += pick(g.Rand, " UNION ", " UNION ALL ") + side(g.from("c"))
	}
	return out
}

func (g *grammar) correlated() string {
	a, b := g.from("a"), g.from("b")
	switch g.IntN(4) {
	case 0:
		return fmt.Sprintf("SELECT a._partition, a._offset FROM %s WHERE %sEXISTS (SELECT 1 FROM %s WHERE %s AND (%s))", a.table, pick(g.Rand, "", "NOT "), g.thin(b), g.match(a, b), g.bool(b, 1))
	case 1:
		return fmt.Sprintf("SELECT a._partition, a._offset, (SELECT %s FROM %s WHERE %s) AS x FROM %s", pick(g.Rand, "count(*)", "max("+g.scalar(b, 1)+")", "sum("+g.int(b, 1)+")"), g.thin(b), g.match(a, b), g.thin(a))
	case 2:
		return fmt.Sprintf("SELECT a._partition, a._offset FROM %s WHERE %s %sIN (SELECT %s FROM %s WHERE a._partition = b._partition)", a.table, g.int(a, 1), pick(g.Rand, "", "NOT "), g.int(b, 1), g.thin(b))
	default:
		of := pick(g.Rand, ints, texts)
		return fmt.Sprintf("SELECT a._partition, a._offset FROM %s WHERE %s %s %s (SELECT %s FROM %s)", g.thin(a), g.expr(a, of, 0), pick(g.Rand, "=", "<", ">="), pick(g.Rand, "ANY", "ALL"), g.expr(b, of, 0), g.thin(b))
	}
}

func (g *grammar) scalarSubquery() string {
	a, b := g.from("a"), g.from("b")
	return fmt.Sprintf("SELECT a._partition, a._offset, %s FROM %s WHERE %s > (SELECT %s FROM %s)", g.any(a, 1), a.table, g.int(a, 1), pick(g.Rand, "min(", "avg(", "median(")+g.int(b, 1)+")", b.table)
}

func (g *grammar) unnested() string {
	s := g.from("t")
	l := g.anyList(s)
	switch g.IntN(5) {
	case 0:
		return fmt.Sprintf("SELECT t._partition, t._offset, unnest(%s) AS x FROM %s%s", l, s.table, g.where(s, 1))
	case 1:
		return fmt.Sprintf("SELECT t._partition, t._offset, u.x, %s FROM %s, unnest(%s) AS u(x)%s", g.any(s, 1), s.table, l, g.where(s, 1))
	case 2:
		return fmt.Sprintf("SELECT x, count(*), min(o) FROM (SELECT unnest(%s) AS x, t._offset AS o FROM %s) GROUP BY x HAVING count(*) > 1", l, s.table)
	case 3:
		return fmt.Sprintf("SELECT t._offset, len(%[1]s), %[1]s[1], %[1]s[-1], %[1]s[2:3], list_reverse(%[1]s), list_distinct(%[1]s) IS NULL FROM %[2]s%[3]s", l, s.table, g.where(s, 1))
	default:
		return fmt.Sprintf("SELECT (SELECT count(x) FROM (SELECT unnest(%s) AS x)) AS n, count(*) FROM %s GROUP BY 1", l, s.table)
	}
}

func (g *grammar) nested() string {
	s := g.from("t")
	g.how.bits = true
	l := g.anyList(s)
	column := g.column(s, structs)
	if column == "" {
		column = "t._headers"
	}
	return fmt.Sprintf("SELECT t._offset, %s, %s, %s FROM %s%s", column,
		pick(g.Rand, "to_json("+column+")::VARCHAR", column+"::VARCHAR", "{'a': "+g.any(s, 1)+", 'b': ["+g.int(s, 1)+", NULL]}", "row("+g.any(s, 1)+", "+g.any(s, 1)+")::VARCHAR", "struct_pack(x := "+g.any(s, 1)+")"),
		pick(g.Rand, "["+g.int(s, 1)+", "+g.int(s, 1)+"]", "list_concat("+l+", "+l+")", "list_sort("+l+")", "[x for x in "+l+" if x IS NOT NULL]", "list_transform("+l+", lambda x, i: i)", l+" = "+l),
		s.table, g.where(s, 1))
}

func (g *grammar) overTime() string {
	s := g.from("t")
	zone := pick(g.Rand, zones...)
	switch g.IntN(3) {
	case 0:
		return fmt.Sprintf("SELECT date_trunc('%s', t._timestamp AT TIME ZONE %s) AS bucket, %s FROM %s%s GROUP BY bucket", pick(g.Rand, "hour", "day", "week", "month"), zone, g.aggregates(s), s.table, g.where(s, 1))
	case 1:
		return fmt.Sprintf("SELECT t._offset, t._timestamp, timezone(%s, t._timestamp), extract(hour FROM t._timestamp AT TIME ZONE %s), strftime(t._timestamp, '%%Y-%%m-%%dT%%H:%%M:%%S.%%f'), epoch_ms(t._timestamp), date_diff('%s', t._timestamp, TIMESTAMPTZ '2024-03-31 00:00:00+01'), t._timestamp::DATE FROM %s%s",
			zone, zone, pick(g.Rand, "day", "hour", "month", "minute"), s.table, g.where(s, 1))
	default:
		return fmt.Sprintf("SELECT d, count(t._offset), min(%s) FROM generate_series(TIMESTAMPTZ '2024-03-30', TIMESTAMPTZ '2024-04-02', INTERVAL '6 hours') r(d) LEFT JOIN %s ON t._timestamp >= d AND t._timestamp < d + INTERVAL '6 hours' GROUP BY d", g.scalar(s, 1), s.table)
	}
}

func (g *grammar) headers() string {
	s := g.from("t")
	switch g.IntN(3) {
	case 0:
		return "SELECT h.key, h.value, count(*) FROM (SELECT unnest(t._headers) AS h FROM " + s.table + g.where(s, 1) + ") GROUP BY ALL"
	case 1:
		return "SELECT t._partition, t._offset, t._headers, t._key, t._key_bytes FROM " + s.table + g.where(s, 1)
	default:
		return "SELECT len(t._headers) AS n, count(t._headers[1].value), max(octet_length(t._value_bytes)), count(*) - count(t._value), bit_xor(hash(t._value_bytes)), sum(length(t._value)) FROM " + s.table + " GROUP BY n"
	}
}

func (g *grammar) nans() string {
	s := g.from("t")
	x := g.double(s, 1)
	switch g.IntN(3) {
	case 0:
		return fmt.Sprintf("SELECT t._offset, %[1]s AS x, %[1]s + 'nan'::DOUBLE, %[1]s = 'nan'::DOUBLE, %[1]s < 'inf'::DOUBLE, greatest(%[1]s, 'nan'::DOUBLE), %[1]s IN ('nan'::DOUBLE, 0) FROM %[2]s%[3]s", x, s.table, g.where(s, 1))
	case 1:
		return fmt.Sprintf("SELECT CASE WHEN t._offset %% 3 = 0 THEN 'nan'::DOUBLE WHEN t._offset %% 3 = 1 THEN %s END AS x, count(*) FROM %s GROUP BY x", x, s.table)
	default:
		g.how.ordered = true
		return fmt.Sprintf("SELECT %s AS x, t._partition, t._offset FROM %s ORDER BY (CASE WHEN t._offset %% 4 = 0 THEN 'nan'::DOUBLE ELSE %s END)%s, t._partition, t._offset LIMIT 100", x, s.table, x, g.direction())
	}
}

func (g *grammar) described() string {
	s := g.from("t")
	return "DESCRIBE SELECT " + g.any(s, 2) + ", " + g.aggregate(s) + " AS x FROM " + s.table + " GROUP BY ALL"
}

// wrong statements mostly fail, on both sides.
func (g *grammar) wrong() string {
	s := g.from("t")
	return pick(g.Rand,
		"SELECT sum(CAST(t.name AS BIGINT)) FROM "+s.table,
		"SELECT max(CAST(t._offset AS DOUBLE) * 1e10 :: INTEGER) FROM "+s.table,
		"SELECT CAST(t.amount AS TINYINT) FROM "+s.table,
		"SELECT (t._offset + 120)::TINYINT FROM "+s.table,
		"SELECT max(CAST(t.\"when\" AS TIMESTAMP)) FROM "+s.table,
		"SELECT t._offset + 9223372036854775807 FROM "+s.table,
		"SELECT sqrt(-1 - t._offset) FROM "+s.table,
		"SELECT (SELECT _offset FROM "+s.table+") AS x",
		"SELECT t.nowhere FROM "+s.table,
		"SELECT no_function(t._offset) FROM "+s.table,
		"SELECT t._offset, count(*) FROM "+s.table,
		"SELECT t._offset FROM "+s.table+" WHERE count(*) > 1",
		"SELECT t._offset + t._timestamp FROM "+s.table,
		"SELECT t.tags + 1 FROM "+s.table,
		"SELECT FROM WHERE "+s.table,
		"SELECT count(* FROM "+s.table,
		"SELECT * FROM no_topic_of_this_name",
		"SELECT a.x FROM "+s.table,
		"SELECT _offset FROM "+s.table+" UNION SELECT _offset, _partition FROM "+s.table,
	)
}

// Statements follow from seed and number.
func TestStatements(t *testing.T) {
	topics := []table{{name: "t"}}
	longest := ""
	for n := range uint64(3000) {
		s := newStatement(7, n, topics)
		if again := newStatement(7, n, topics); again != s {
			t.Fatalf("statement %d is\n%s\nand\n%s", n, s.sql, again.sql)
		}
		if len(s.sql) > len(longest) {
			longest = s.sql
		}
	}
	if len(longest) > 8000 {
		t.Errorf("a statement of %d bytes: %s", len(longest), longest)
	}
}
