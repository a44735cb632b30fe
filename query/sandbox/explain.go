package sandbox

// Explain says whether a text asks to see how it would run instead of its rows.
type Explain uint8

const (
	// ExplainNone: it asks for its rows.
	ExplainNone Explain = iota
	// ExplainPlan is EXPLAIN: the plan, without running it.
	ExplainPlan
	// ExplainAnalyze is EXPLAIN ANALYZE: it runs, and its measures are the answer.
	ExplainAnalyze
)

// Strip takes EXPLAIN or EXPLAIN ANALYZE off the front of a text. The body is the text from offset on. The position of
// its refusal is one of the whole text.
func Strip(sql string) (kind Explain, body string, offset int, err error) {
	l := lexer{sql: sql}
	// What is wrong with the text is found again, and told, by Precheck.
	first, _ := l.next()
	if l.word(first) != "explain" {
		return ExplainNone, sql, 0, nil
	}
	offset = first.end
	kind = ExplainPlan
	second, _ := l.next()
	switch word := l.word(second); {
	case word == "analyze" || word == "analyse":
		kind, offset = ExplainAnalyze, second.end
	case word == "verbose":
		return explainOption(second.start)
	case second.kind == tokenSymbol && sql[second.start] == '(':
		if option, r := l.next(); r == nil {
			switch l.word(option) {
			case "format", "analyze", "analyse", "verbose", "costs", "timing", "buffers", "summary", "settings":
				return explainOption(second.start)
			}
		}
	}
	peek := l
	if kind == ExplainPlan {
		peek.at = offset
	}
	if next, r := peek.next(); r == nil && peek.word(next) == "explain" {
		return ExplainNone, "", 0, refuse(StatementNotAllowed, next.start, "", "EXPLAIN cannot be explained.")
	}
	return kind, sql[offset:], offset, nil
}

func explainOption(at int) (kind Explain, body string, offset int, err error) {
	return ExplainNone, "", 0, refuse(Unsupported, at, "Write EXPLAIN or EXPLAIN ANALYZE before the query.", "EXPLAIN takes no options here.")
}
