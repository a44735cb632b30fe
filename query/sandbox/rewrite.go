package sandbox

import (
	"cmp"
	"slices"
	"sort"
	"strings"
)

// edit is what Rewrite does beside a reference: the grammar takes a name after DESCRIBE and TABLE, and a call only after FROM.
type edit struct {
	// start is where the replaced text begins, at or before the reference's Start.
	start  int
	prefix string
}

// locate finds the tables in the text. What the tree says of each place must be there.
func (s *Statement) locate(sql string, tables []baseTable) *Refusal {
	if len(tables) == 0 {
		return nil
	}
	slices.SortFunc(tables, func(a, b baseTable) int { return cmp.Compare(a.location, b.location) })
	l := lexer{sql: sql}
	var before, beforeThat token
	t, r := l.next()
	for i, table := range tables {
		for r == nil && t.kind != tokenEnd && t.start < table.location {
			beforeThat, before = before, t
			t, r = l.next()
		}
		lost := refuse(Unsupported, -1, "Write it in another way, such as with its name in quotes.",
			"The place of the table %s in the statement cannot be told.", shown(table.name))
		if r != nil || t.kind == tokenEnd || t.start != table.location || i > 0 && tables[i-1].location == table.location {
			return lost
		}
		reference := Reference{Schema: table.schema, Name: table.name, Alias: table.alias, Start: t.start}
		names, end, after, bad := l.dotted(t)
		if bad != nil || len(names) == 0 || len(names) > 2 || !same(names[len(names)-1], table.name) {
			return lost
		}
		if schema := names[:len(names)-1]; len(schema) == 1 && !(same(schema[0], table.schema) || table.schema == "" && same(schema[0], "main")) ||
			len(schema) == 0 && table.schema != "" {
			return lost
		}
		reference.End = end
		e := edit{start: reference.Start}
		switch l.word(before) {
		case "describe", "desc", "summarize", "show":
			e.prefix = "FROM "
		case "table":
			e.start, e.prefix = before.start, "FROM "
		case "only":
			return refuse(Unsupported, before.start, "Leave it out.", "Tables have no ONLY.")
		case "":
			if l.word(beforeThat) == "only" && before.kind == tokenSymbol && sql[before.start] == '(' {
				return refuse(Unsupported, beforeThat.start, "Leave it out.", "Tables have no ONLY.")
			}
		}
		if after.kind == tokenSymbol && sql[after.start] == '*' {
			return refuse(Unsupported, after.start, "Leave it out.", "A table's name is followed by no *.")
		}
		s.References = append(s.References, reference)
		s.edits = append(s.edits, e)
		beforeThat, before, t = before, t, after
	}
	return nil
}

// dotted reads a name with its dots from its first token on. It returns the end and the token behind.
func (l *lexer) dotted(t token) (names []string, end int, after token, r *Refusal) {
	for {
		name, ok := l.name(t)
		if !ok {
			return nil, 0, t, nil
		}
		names, end = append(names, name), t.end
		dot, r := l.next()
		if r != nil || dot.kind != tokenSymbol || l.sql[dot.start] != '.' {
			return names, end, dot, r
		}
		if t, r = l.next(); r != nil {
			return nil, 0, t, r
		}
	}
}

// same compares names as the engine does. It may make small what was written without quotes, and keeps what was in quotes.
func same(a, b string) bool { return fold(a) == fold(b) }

// Rewrite puts what call says in place of each reference, such as tidemark_scan(0), and gives it the reference's name where the statement
// gives none. The text is the one that was checked. back maps a byte offset of the result to one of the original: what call said, and what was added, to the
// reference's Start; what is outside of the text, to -1. A column without a name, such as a subquery, is named by the engine after its text, in which
// the calls are to be seen.
func (s *Statement) Rewrite(sql string, call func(n int, r Reference) string) (rewritten string, back func(position int) int) {
	// A mark says that from at on, the result is a copy of the original from original on; or, when it is not a copy, that all of it stands for original.
	type mark struct {
		at, original int
		copied       bool
	}
	var b strings.Builder
	marks := make([]mark, 0, 2*len(s.References)+1)
	at := 0
	copyTo := func(end int) {
		if end > at {
			marks = append(marks, mark{b.Len(), at, true})
			b.WriteString(sql[at:end])
		}
	}
	for n, r := range s.References {
		copyTo(s.edits[n].start)
		marks = append(marks, mark{b.Len(), r.Start, false})
		b.WriteString(s.edits[n].prefix)
		b.WriteString(call(n, r))
		if r.Alias == "" {
			b.WriteString(` AS "` + strings.ReplaceAll(r.Name, `"`, `""`) + `"`)
		}
		at = r.End
	}
	copyTo(len(sql))
	length := b.Len()
	return b.String(), func(position int) int {
		if position < 0 || position > length {
			return -1
		}
		i := sort.Search(len(marks), func(i int) bool { return marks[i].at > position }) - 1
		switch {
		case i < 0:
			return 0
		case !marks[i].copied && position == length:
			return len(sql)
		case !marks[i].copied:
			return marks[i].original
		}
		return marks[i].original + position - marks[i].at
	}
}
