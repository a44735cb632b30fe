package main

import (
	"slices"
	"strings"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// sqlReserved are the words that cannot be names without quotes; sqlWords are others that Tab completes.
var (
	sqlReserved = strings.Fields(`ALL ANALYSE ANALYZE AND ANY ARRAY AS ASC ASYMMETRIC BOTH CASE CAST CHECK COLLATE COLUMN CONSTRAINT CREATE
		DEFAULT DEFERRABLE DESC DESCRIBE DISTINCT DO ELSE END EXCEPT FALSE FETCH FOR FOREIGN FROM GROUP HAVING IN INITIALLY INTERSECT INTO
		LAMBDA LATERAL LEADING LIMIT NOT NULL OFFSET ON ONLY OR ORDER PIVOT PIVOT_LONGER PIVOT_WIDER PLACING PRIMARY QUALIFY REFERENCES
		RETURNING SELECT SHOW SOME SUMMARIZE SYMMETRIC TABLE THEN TO TRAILING TRUE UNION UNIQUE UNPIVOT USING VARIADIC WHEN WHERE WINDOW WITH`)
	sqlWords = strings.Fields(`BETWEEN BY CROSS DATE EXPLAIN FILTER FULL ILIKE INNER INTERVAL IS JOIN LEFT LIKE NULLS OUTER OVER PARTITION
		RIGHT ROWS TABLES TIMESTAMP TIMESTAMPTZ VALUES
		ARG_MAX ARG_MIN AVG COALESCE COUNT DATE_TRUNC MAX MEDIAN MIN NOW QUANTILE_CONT ROW_NUMBER ROUND SUM TIME_BUCKET TRY_CAST UNNEST`)
)

// completion are the words that Tab knows.
type completion struct {
	tables []*tidemarkv1.Table
	begun  string // what was typed on the lines before
}

// complete returns what the line becomes when Tab is pressed behind its first pos bytes, and the choices that are left when nothing
// can be added.
func (c *completion) complete(line string, pos int) (newLine string, newPos int, choices []string) {
	begin := wordBegin(line[:pos])
	word := line[begin:pos]
	candidates := c.candidates(word, c.begun+line)
	if len(candidates) == 0 {
		return line, pos, nil
	}
	common := commonPrefix(candidates)
	if len(candidates) == 1 && !strings.HasSuffix(common, ".") && pos == len(line) {
		common += " "
	}
	if len(common) < len(word) || common == word {
		return line, pos, candidates
	}
	return line[:begin] + common + line[pos:], begin + len(common), nil
}

// wordBegin is where the name begins that s ends with: letters, digits, '_', '.', '-' and a quoted part.
func wordBegin(s string) int {
	if quote := strings.LastIndexByte(s, '"'); quote >= 0 && strings.Count(s, `"`)%2 == 1 {
		return quote
	}
	i := len(s)
	for i > 0 && (isWord(s[i-1]) || s[i-1] == '.') {
		i--
	}
	return i
}

// candidates are the words that begin as word does, in order; text is the whole statement. Names are quoted where they need it, and then come also for what
// they begin with without the quote.
func (c *completion) candidates(word, text string) []string {
	if word == "" {
		return nil
	}
	var out []string
	offer := func(name string) {
		quoted := quoteName(name)
		if hasPrefixFold(quoted, word) || quoted != name && hasPrefixFold(name, word) {
			out = append(out, quoted)
		}
	}
	for _, t := range c.tables {
		if t.GetSchema() == "" {
			offer(t.GetName())
		} else if full := quoteName(t.GetSchema()) + "." + quoteName(t.GetName()); hasPrefixFold(full, word) {
			out = append(out, full)
		}
	}
	for _, t := range c.tables {
		// Columns of the tables that are named in it; before any is, of the topics.
		if strings.Contains(text, t.GetName()) || t.GetSchema() == "" && !c.names(text) {
			for _, col := range t.GetColumns() {
				offer(col.GetName())
			}
		}
	}
	for _, k := range append(slices.Clone(sqlReserved), sqlWords...) {
		if hasPrefixFold(k, word) {
			if word == strings.ToLower(word) {
				k = strings.ToLower(k)
			}
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// names tells whether text has the name of a table.
func (c *completion) names(text string) bool {
	return slices.ContainsFunc(c.tables, func(t *tidemarkv1.Table) bool { return strings.Contains(text, t.GetName()) })
}

// quoteName puts a name into double quotes unless SQL takes it as it is.
func quoteName(name string) string {
	plain := name != "" && (name[0] < '0' || name[0] > '9') && !slices.Contains(sqlReserved, strings.ToUpper(name))
	for _, b := range []byte(name) {
		plain = plain && (b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9')
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// commonPrefix is what all begin with, ignoring case, as the first writes it.
func commonPrefix(words []string) string {
	p := words[0]
	for _, w := range words[1:] {
		for !hasPrefixFold(w, p) {
			p = p[:len(p)-1]
		}
	}
	return strings.ToValidUTF8(p, "") // a character that was cut in half
}
