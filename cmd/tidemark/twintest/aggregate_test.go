//go:build cgo

package twintest

import "fmt"

// aggregate is one whose result does not depend on the order of rows.
func (g *grammar) aggregate(s *scope) string {
	key := fmt.Sprintf("%[1]s._partition * 1000000 + %[1]s._offset", s.alias)
	order := fmt.Sprintf("%[1]s._partition, %[1]s._offset", s.alias)
	var out string
	switch g.IntN(18) {
	case 0, 1:
		out = "count(*)"
	case 2:
		out = fmt.Sprintf("count(%s)", g.any(s, 1))
	case 3:
		out = fmt.Sprintf("count(DISTINCT %s)", g.scalar(s, 1))
	case 4, 5:
		out = fmt.Sprintf("sum(%s%s)", pick(g.Rand, "", "", "DISTINCT "), g.int(s, 2))
	case 6, 7:
		out = fmt.Sprintf("%s(%s)", pick(g.Rand, "min", "max"), g.scalar(s, 2))
	case 8:
		out = fmt.Sprintf("avg(%s)", g.int(s, 1))
	case 9:
		out = fmt.Sprintf("%s(%s)", pick(g.Rand, "bool_and", "bool_or", "count_if"), g.bool(s, 1))
	case 10:
		out = fmt.Sprintf("%s(%s)", pick(g.Rand, "bit_xor", "bit_and", "bit_or"), g.int(s, 1))
	case 11:
		out = pick(g.Rand, "median("+g.int(s, 0)+")", "quantile_disc("+g.int(s, 0)+", 0.9)", "quantile_cont("+g.int(s, 0)+" % 1000, 0.25)")
	case 12:
		return fmt.Sprintf("string_agg(%s, ',' ORDER BY %s)", g.text(s, 0), order)
	case 13:
		return fmt.Sprintf("list(%s ORDER BY %s)", g.any(s, 0), order)
	case 14:
		out = fmt.Sprintf("%s(%s, %s)", pick(g.Rand, "max_by", "min_by", "arg_max"), g.scalar(s, 0), key)
	case 15, 16:
		g.how.inexact = true
		x := g.double(s, 1)
		out = fmt.Sprintf("%s(CASE WHEN abs(%s) < 1e6 THEN abs(%s) END)", pick(g.Rand, "sum", "avg", "fsum"), x, x)
	default:
		out = fmt.Sprintf("list_sort(list(DISTINCT %s))", g.int(s, 0))
	}
	if g.IntN(4) == 0 {
		out += fmt.Sprintf(" FILTER (WHERE %s)", g.bool(s, 1))
	}
	return out
}

// key is what to group by: not too many different ones.
func (g *grammar) key(s *scope) string {
	switch g.IntN(8) {
	case 0, 1:
		return fmt.Sprintf("(%s %% %s)", g.int(s, 1), pick(g.Rand, "5", "13"))
	case 2:
		return g.text(s, 1)
	case 3:
		return g.bool(s, 1)
	case 4:
		return fmt.Sprintf("date_trunc('%s', %s._timestamp AT TIME ZONE %s)", pick(g.Rand, "hour", "day", "month"), s.alias, pick(g.Rand, zones...))
	case 5:
		return s.alias + "._partition"
	case 6:
		if c := g.column(s, pick(g.Rand, structs, intLists, textLists, blobs)); c != "" {
			return c
		}
		return g.double(s, 0)
	default:
		return g.scalar(s, 0)
	}
}
