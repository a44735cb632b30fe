//go:build cgo

package twintest

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// sort is what an expression gives, as far as the grammar cares.
type sort uint8

const (
	ints sort = iota
	doubles
	texts
	bools
	times
	blobs
	intLists
	doubleLists
	textLists
	structs
	structLists
	sorts
)

// scope is what an expression may refer to.
type scope struct {
	alias string
	table string // in the FROM clause, with the alias
	pool  [sorts][]string
}

// table is a topic as the grammar knows it.
type table struct {
	name    string
	columns []field
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// ident is a name in SQL, in quotes only where they are needed, or else sometimes.
func ident(name string) string {
	if plainName.MatchString(name) && name != "select" {
		return name
	}
	return quoted(name)
}

// scopeOf is a topic under an alias.
func scopeOf(t table, alias string) *scope {
	s := &scope{alias: alias, table: ident(t.name) + " AS " + alias}
	s.pool[ints] = []string{alias + "._offset", alias + "._partition"}
	s.pool[times] = []string{alias + "._timestamp"}
	s.pool[texts] = []string{alias + "._key", alias + "._value"}
	s.pool[blobs] = []string{alias + "._key_bytes", alias + "._value_bytes"}
	s.pool[structLists] = []string{alias + "._headers"}
	for _, f := range t.columns {
		s.add(alias+"."+ident(f.name), f.typ, 0)
	}
	return s
}

func (s *scope) add(expression string, t colType, depth int) {
	switch t.kind {
	case boolean:
		s.pool[bools] = append(s.pool[bools], expression)
	case integer:
		s.pool[ints] = append(s.pool[ints], expression)
	case double:
		s.pool[doubles] = append(s.pool[doubles], expression)
	case structure:
		s.pool[structs] = append(s.pool[structs], expression)
		for _, f := range t.fields {
			if depth < 3 {
				s.add(expression+"."+ident(f.name), f.typ, depth+1)
			}
		}
	case list:
		switch t.elem.kind {
		case integer:
			s.pool[intLists] = append(s.pool[intLists], expression)
		case double:
			s.pool[doubleLists] = append(s.pool[doubleLists], expression)
		case structure:
			s.pool[structLists] = append(s.pool[structLists], expression)
			if f := t.elem.fields[0]; depth < 3 {
				s.add(expression+"[1]."+ident(f.name), f.typ, 3)
			}
		case text, jsonText:
			s.pool[textLists] = append(s.pool[textLists], expression)
		default:
		}
	default:
		s.pool[texts] = append(s.pool[texts], expression)
	}
}

// grammar writes random SQL.
type grammar struct {
	*rand.Rand

	tables []table
	how    how
}

// expr is an expression of a sort, at most so deep.
func (g *grammar) expr(s *scope, of sort, depth int) string {
	switch of {
	case ints:
		return g.int(s, depth)
	case doubles:
		return g.double(s, depth)
	case texts:
		return g.text(s, depth)
	case bools:
		return g.bool(s, depth)
	case times:
		return g.time(s, depth)
	default:
		if c := g.column(s, of); c != "" {
			return c
		}
		return g.int(s, depth)
	}
}

// column is one of the scope's, "" when it has none.
func (g *grammar) column(s *scope, of sort) string {
	if len(s.pool[of]) == 0 {
		return ""
	}
	return pick(g.Rand, s.pool[of]...)
}

// scalar is an expression of any sort that may be grouped and sorted.
func (g *grammar) scalar(s *scope, depth int) string {
	return g.expr(s, pick(g.Rand, ints, ints, doubles, texts, texts, bools, times), depth)
}

// any is an expression of any sort at all.
func (g *grammar) any(s *scope, depth int) string {
	if g.IntN(3) > 0 {
		return g.scalar(s, depth)
	}
	return g.expr(s, sort(g.IntN(int(sorts))), depth)
}

func (g *grammar) number() string {
	return pick(g.Rand, "0", "1", "2", "3", "5", "7", "10", "17", "40", "100", "1000", "-1", "-3")
}

func (g *grammar) literal() string {
	w := pick(g.Rand, words...)
	if strings.ContainsAny(w, "\x00") {
		return "'a'"
	}
	return "'" + strings.ReplaceAll(w, "'", "''") + "'"
}

func (g *grammar) int(s *scope, depth int) string {
	if depth <= 0 {
		if g.IntN(5) == 0 {
			return g.number()
		}
		return g.column(s, ints)
	}
	i := func() string { return g.int(s, depth-1) }
	switch g.IntN(24) {
	case 0:
		return fmt.Sprintf("(%s %% %s)", i(), pick(g.Rand, "2", "3", "7", "10", "64"))
	case 1:
		return fmt.Sprintf("((%s %% 1000) %s (%s %% 1000))", i(), pick(g.Rand, "+", "-", "*", "&", "|"), i())
	case 2:
		return fmt.Sprintf("%s(%s)", pick(g.Rand, "length", "strlen", "length_grapheme", "ascii", "unicode", "bit_length"), g.text(s, depth-1))
	case 3:
		return fmt.Sprintf("coalesce(%s, %s)", i(), i())
	case 4:
		return fmt.Sprintf("CASE WHEN %s THEN %s ELSE %s END", g.bool(s, depth-1), i(), i())
	case 5:
		return fmt.Sprintf("CASE %s %% 3 WHEN 0 THEN %s WHEN 1 THEN NULL END", i(), i())
	case 6:
		return fmt.Sprintf("abs(%s %% 1000)", i())
	case 7:
		return fmt.Sprintf("TRY_CAST(%s AS %s)", g.text(s, depth-1), pick(g.Rand, "BIGINT", "INTEGER", "UTINYINT"))
	case 8:
		return fmt.Sprintf("TRY_CAST(%s AS BIGINT)", g.double(s, depth-1))
	case 9:
		return fmt.Sprintf("extract(%s FROM %s)", pick(g.Rand, "year", "month", "day", "hour", "minute", "dow", "doy", "week", "quarter"), g.time(s, depth-1))
	case 10:
		return fmt.Sprintf("CAST(%s AS INTEGER)", g.bool(s, depth-1))
	case 11:
		return fmt.Sprintf("nullif(%s, %s)", i(), g.number())
	case 12:
		return fmt.Sprintf("%s(%s, %s)", pick(g.Rand, "greatest", "least"), i(), i())
	case 13:
		return fmt.Sprintf("(%s // %s)", i(), pick(g.Rand, "2", "7", "100"))
	case 14:
		return fmt.Sprintf("%s(%s)", pick(g.Rand, "bit_count", "sign"), i())
	case 15:
		return fmt.Sprintf("strpos(%s, %s)", g.text(s, depth-1), g.literal())
	case 16:
		return fmt.Sprintf("octet_length(%s)", g.column(s, blobs))
	case 17:
		if l := g.anyList(s); l != "" {
			return fmt.Sprintf("%s(%s)", pick(g.Rand, "len", "array_length"), l)
		}
		return i()
	case 18:
		if l := g.column(s, intLists); l != "" {
			return pick(g.Rand, l+"[1]", l+"[-1]", "list_max("+l+")", "list_extract("+l+", 2)", "list_position("+l+", 3)", "len(list_filter("+l+", lambda x: x > 2))")
		}
		return i()
	default:
		return i()
	}
}

// anyList is a list of anything.
func (g *grammar) anyList(s *scope) string {
	return g.column(s, pick(g.Rand, intLists, doubleLists, textLists, structLists))
}

func (g *grammar) double(s *scope, depth int) string {
	c := g.column(s, doubles)
	if c == "" {
		c = g.column(s, ints) + " / 8"
	}
	if depth <= 0 {
		if g.IntN(6) == 0 {
			return pick(g.Rand, "0.5::DOUBLE", "-2e3::DOUBLE", "'nan'::DOUBLE", "'inf'::DOUBLE", "1e300")
		}
		return c
	}
	d := func() string { return g.double(s, depth-1) }
	switch g.IntN(16) {
	case 0:
		return fmt.Sprintf("(%s %s %s)", d(), pick(g.Rand, "+", "-", "*", "/", "%"), d())
	case 1:
		return fmt.Sprintf("CAST(%s AS DOUBLE)", g.int(s, depth-1))
	case 2:
		return fmt.Sprintf("(%s / %s)", g.int(s, depth-1), pick(g.Rand, "3", "8", "0", "-7"))
	case 3:
		return fmt.Sprintf("%s(%s)", pick(g.Rand, "abs", "floor", "ceil", "trunc", "round"), d())
	case 4:
		return fmt.Sprintf("%s(abs(%s) + 1)", pick(g.Rand, "sqrt", "ln", "log10", "cbrt"), d())
	case 5:
		return fmt.Sprintf("round(%s, %s)", d(), pick(g.Rand, "0", "2", "-1"))
	case 6:
		return fmt.Sprintf("coalesce(%s, %s)", d(), d())
	case 7:
		return fmt.Sprintf("CASE WHEN %s THEN %s END", g.bool(s, depth-1), d())
	case 8:
		return fmt.Sprintf("TRY_CAST(%s AS DOUBLE)", g.text(s, depth-1))
	case 9:
		return fmt.Sprintf("nullif(%s, 0)", d())
	case 10:
		return fmt.Sprintf("%s(%s, %s)", pick(g.Rand, "greatest", "least"), d(), d())
	case 11:
		if l := g.column(s, doubleLists); l != "" {
			return pick(g.Rand, l+"[1]", "list_max("+l+")", "list_min("+l+")")
		}
		return c
	default:
		return c
	}
}

func (g *grammar) text(s *scope, depth int) string {
	if depth <= 0 {
		if g.IntN(8) == 0 {
			return g.literal()
		}
		return g.column(s, texts)
	}
	t := func() string { return g.text(s, depth-1) }
	switch g.IntN(26) {
	case 0:
		return fmt.Sprintf("%s(%s)", pick(g.Rand, "lower", "upper", "trim", "ltrim", "reverse", "strip_accents", "nfc_normalize", "md5"), t())
	case 1:
		return fmt.Sprintf("substring(%s, %s, %s)", t(), pick(g.Rand, "1", "2", "-2", "0"), pick(g.Rand, "1", "3", "8"))
	case 2:
		return fmt.Sprintf("(%s || %s)", t(), t())
	case 3:
		return fmt.Sprintf("replace(%s, %s, %s)", t(), g.literal(), g.literal())
	case 4:
		return fmt.Sprintf("%s(%s, %s)", pick(g.Rand, "left", "right", "left_grapheme"), t(), pick(g.Rand, "0", "1", "4", "-1"))
	case 5:
		return fmt.Sprintf("CAST(%s AS VARCHAR)", g.expr(s, pick(g.Rand, ints, doubles, bools, times, structs, intLists, textLists, structLists), depth-1))
	case 6:
		return fmt.Sprintf("strftime(%s, %s)", g.time(s, depth-1), pick(g.Rand, "'%Y-%m'", "'%H:%M'", "'%A %d %B %Y'", "'%c'"))
	case 7:
		return fmt.Sprintf("regexp_replace(%s, %s, %s)", t(), pick(g.Rand, "'[0-9]+'", "'^a'", "'(.)(.)'"), pick(g.Rand, "'#'", `'\2\1'`, "''"))
	case 8:
		return fmt.Sprintf("regexp_extract(%s, '([A-Za-z]+)', 1)", t())
	case 9:
		return fmt.Sprintf("coalesce(%s, %s)", t(), t())
	case 10:
		return fmt.Sprintf("CASE WHEN %s THEN %s ELSE %s END", g.bool(s, depth-1), t(), t())
	case 11:
		return fmt.Sprintf("CASE WHEN json_valid(%[1]s._value) THEN json_extract_string(%[1]s._value, %[2]s) END", s.alias, pick(g.Rand, "'$.id'", "'$.address.city'", "'$.tags[0]'", "'$.nope'"))
	case 12:
		return fmt.Sprintf("hex(%s)", g.column(s, blobs))
	case 13:
		return fmt.Sprintf("split_part(%s, ' ', %s)", t(), pick(g.Rand, "1", "2", "-1"))
	case 14:
		if l := g.column(s, textLists); l != "" {
			return pick(g.Rand, l+"[1]", "array_to_string("+l+", '|')", "list_max("+l+")", "array_to_string(list_sort("+l+"), ',')", "array_to_string(list_transform("+l+", lambda x: upper(x)), '')")
		}
		return t()
	case 15:
		return fmt.Sprintf("concat(%s, %s)", g.scalar(s, depth-1), t())
	case 16:
		return fmt.Sprintf("typeof(%s)", g.any(s, depth-1))
	case 17:
		return fmt.Sprintf("%s(%s)", pick(g.Rand, "dayname", "monthname"), g.time(s, depth-1))
	default:
		return t()
	}
}

var zones = []string{"'Europe/Berlin'", "'America/New_York'", "'Asia/Kolkata'", "'UTC'", "'Australia/Lord_Howe'"}

func (g *grammar) time(s *scope, depth int) string {
	t := g.column(s, times)
	if depth <= 0 {
		return t
	}
	switch g.IntN(10) {
	case 0:
		return fmt.Sprintf("date_trunc('%s', %s)", pick(g.Rand, "hour", "day", "week", "month", "year"), g.time(s, depth-1))
	case 1:
		return fmt.Sprintf("(%s %s INTERVAL '%s')", t, pick(g.Rand, "+", "-"), pick(g.Rand, "3 days", "1 month", "36 hours", "90 minutes"))
	case 2, 3:
		return fmt.Sprintf("(%s AT TIME ZONE %s)", t, pick(g.Rand, zones...))
	case 4:
		return fmt.Sprintf("time_bucket(INTERVAL '%s', %s)", pick(g.Rand, "6 hours", "1 day", "1 month"), t)
	case 5:
		return fmt.Sprintf("TRY_CAST(%s AS TIMESTAMP)", g.text(s, depth-1))
	case 6:
		return fmt.Sprintf("to_timestamp(%s %% 100000)", g.int(s, depth-1))
	default:
		return t
	}
}

var comparisons = []string{"=", "<>", "<", "<=", ">", ">="}

func (g *grammar) bool(s *scope, depth int) string {
	compare := func() string {
		of := pick(g.Rand, ints, ints, doubles, texts, times)
		x, y := g.expr(s, of, depth-1), g.expr(s, of, depth-1)
		if g.IntN(2) == 0 {
			switch of {
			case ints:
				y = g.number()
			case texts:
				y = g.literal()
			case times:
				y = pick(g.Rand, "TIMESTAMPTZ '2024-01-01'", "TIMESTAMPTZ '2023-10-29 01:00:00+00'", "TIMESTAMPTZ '2024-07-04 00:00:00-05'")
			default:
			}
		}
		switch g.IntN(8) {
		case 0:
			return fmt.Sprintf("%s IS %sDISTINCT FROM %s", x, pick(g.Rand, "", "NOT "), y)
		case 1:
			return fmt.Sprintf("%s %sBETWEEN %s AND %s", x, pick(g.Rand, "", "NOT "), y, g.expr(s, of, 0))
		default:
			return fmt.Sprintf("%s %s %s", x, pick(g.Rand, comparisons...), y)
		}
	}
	if depth <= 0 {
		if c := g.column(s, bools); c != "" && g.IntN(3) == 0 {
			return c
		}
		return fmt.Sprintf("%s %s %s", g.column(s, ints), pick(g.Rand, comparisons...), g.number())
	}
	b := func() string { return g.bool(s, depth-1) }
	switch g.IntN(18) {
	case 0:
		return fmt.Sprintf("(%s AND %s)", b(), b())
	case 1, 2:
		return fmt.Sprintf("(%s OR %s)", b(), b())
	case 3:
		return fmt.Sprintf("(NOT (%s))", b())
	case 4:
		return fmt.Sprintf("(%s IS %sNULL)", g.any(s, depth-1), pick(g.Rand, "", "NOT ", "NOT "))
	case 5:
		return fmt.Sprintf("(%s %s %s)", g.text(s, depth-1), pick(g.Rand, "LIKE", "NOT LIKE", "ILIKE"), pick(g.Rand, "'%a%'", "'a_%'", "'%\"id\"%'", "'%ü%'", "'_'"))
	case 6:
		return fmt.Sprintf("regexp_matches(%s, %s)", g.text(s, depth-1), pick(g.Rand, "'^[a-m]'", "'[0-9]{2}'", "'(?i)Z.RICH'", "'\\s'"))
	case 7:
		return fmt.Sprintf("(%s %sIN (%s, %s, NULL))", g.text(s, depth-1), pick(g.Rand, "", "NOT "), g.literal(), g.literal())
	case 8:
		return fmt.Sprintf("(%s IN (1, 2, 3, 5, 8, 13, 21, 34))", g.int(s, depth-1))
	case 9:
		return fmt.Sprintf("%s(%s)", pick(g.Rand, "isnan", "isinf", "isfinite"), g.double(s, depth-1))
	case 10:
		if l := g.column(s, textLists); l != "" {
			return pick(g.Rand, "list_contains("+l+", "+g.literal()+")", g.literal()+" = ANY("+l+")", "list_has_any("+l+", ['a', 'b', 'x'])")
		}
		return compare()
	case 11:
		return fmt.Sprintf("(%s IS TRUE)", b())
	case 12:
		return fmt.Sprintf("starts_with(%s, %s)", g.text(s, depth-1), g.literal())
	default:
		return "(" + compare() + ")"
	}
}

// filter is a condition that a fair part of the rows meets.
func (g *grammar) filter(s *scope, depth int) string {
	switch g.IntN(6) {
	case 0:
		return fmt.Sprintf("%s._offset %% %s = %s", s.alias, pick(g.Rand, "2", "3", "5"), pick(g.Rand, "0", "1"))
	case 1:
		return fmt.Sprintf("%s._offset >= %s", s.alias, pick(g.Rand, "0", "3", "50", "200"))
	case 2:
		return fmt.Sprintf("(%s OR %s._offset %% 4 = 1)", g.bool(s, depth), s.alias)
	default:
		return g.bool(s, depth)
	}
}

// where is a WHERE clause, or none.
func (g *grammar) where(s *scope, depth int) string {
	if g.IntN(4) == 0 {
		return ""
	}
	return " WHERE " + g.filter(s, depth)
}

// totally is an ORDER BY that leaves nothing open in a scope.
func (g *grammar) totally(s *scope) string {
	out := "ORDER BY "
	for range g.IntN(3) {
		out += g.scalar(s, 1) + g.direction() + ", "
	}
	last := []string{s.alias + "._partition" + g.direction(), s.alias + "._offset" + g.direction()}
	if g.IntN(2) == 0 {
		slices.Reverse(last)
	}
	return out + strings.Join(last, ", ")
}

func (g *grammar) direction() string {
	return pick(g.Rand, "", "", " ASC", " DESC") + pick(g.Rand, "", "", " NULLS FIRST", " NULLS LAST")
}
