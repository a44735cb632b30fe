package sandbox

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Precheck refuses what the engine's parser must not be asked to read: what is too large for it, more than one statement, and bytes on which its
// lexer and this package's may differ. It takes time in the length of the text and no memory.
func Precheck(sql string) error {
	if r := precheck(sql); r != nil {
		return r
	}
	return nil
}

func precheck(sql string) *Refusal {
	if len(sql) > MaxSQL {
		return refuse(TooLarge, -1, "", "The statement has %d bytes; the limit is %d.", len(sql), MaxSQL)
	}
	if !utf8.ValidString(sql) {
		return refuse(Syntax, badUTF8(sql), "Send the text in UTF-8.", "The text is not UTF-8.")
	}
	if n := strings.IndexByte(sql, 0); n >= 0 {
		return refuse(Syntax, n, "", "The text has a NUL byte.")
	}
	l := lexer{sql: sql}
	tokens, depth, conjunctions, ended, before := 0, 0, 0, false, 0
	for {
		t, r := l.next()
		if r != nil {
			return r
		}
		// Quotes may hold any white space; between tokens, and in comments, the engine takes it for blanks and loses count of its bytes.
		if n := oddSpace(sql[before:t.start]); n >= 0 {
			return refuseSpace(sql, before+n)
		}
		before = t.end
		if t.kind == tokenEnd {
			break
		}
		if t.kind == tokenWord {
			if n := oddSpace(sql[t.start:t.end]); n >= 0 {
				return refuseSpace(sql, t.start+n)
			}
		}
		semicolon := t.kind == tokenSymbol && sql[t.start] == ';'
		if ended && !semicolon {
			return refuse(NotOneStatement, t.start, "Send them one by one.", "There is more than one statement.")
		}
		ended = ended || semicolon && tokens > 0
		if tokens++; tokens > maxTokens {
			return refuse(TooLarge, t.start, "", "The statement has more than %d words and symbols.", maxTokens)
		}
		if t.kind == tokenSymbol {
			switch sql[t.start] {
			case '(', '[', '{':
				if depth++; depth > maxBrackets {
					return refuse(TooLarge, t.start, "", "Brackets are nested more than %d deep.", maxBrackets)
				}
			case ')', ']', '}':
				depth--
			}
		}
		if w := l.word(t); w == "and" || w == "or" {
			if conjunctions++; conjunctions > maxConjunctions {
				return refuse(TooLarge, t.start, "Use a list instead, x IN (…), or a join with VALUES.",
					"The statement has more than %d AND and OR.", maxConjunctions)
			}
		}
	}
	return nil
}

func badUTF8(sql string) int {
	for i, r := range sql {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(sql[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}

// oddSpace finds white space that is not ASCII, and characters that are nothing to see.
func oddSpace(s string) int {
	for i, r := range s {
		if r >= utf8.RuneSelf && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zs, r)) {
			return i
		}
	}
	return -1
}

func refuseSpace(sql string, at int) *Refusal {
	r, _ := utf8.DecodeRuneInString(sql[at:])
	return refuse(Syntax, at, "Replace it by an ordinary blank.", "There is a blank that is no ordinary one (U+%04X) outside of quotes.", r)
}
