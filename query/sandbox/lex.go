package sandbox

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is what a token is.
type tokenKind uint8

const (
	tokenEnd       tokenKind = iota
	tokenWord                // an identifier or keyword without quotes
	tokenQuoted              // an identifier in double quotes
	tokenString              // a literal in single quotes or dollar quotes, with its prefix
	tokenNumber              // a number; letters that touch it are a word of their own
	tokenParameter           // ?, $1 or $name
	tokenSymbol              // one byte of punctuation or of an operator
)

// token is a piece of a text, white space and comments left out.
type token struct {
	kind       tokenKind
	start, end int
}

// lexer cuts a text into tokens as PostgreSQL's and DuckDB's lexers do: comments that nest, strings with doubled quotes, with
// escapes (E'..', which goes on in the next line's quotes) and in dollar quotes. What it needs to get right is where quotes and comments end.
type lexer struct {
	sql string
	at  int
	// deepest is how deep comments were nested so far.
	deepest int
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}

func isWordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordPart(c byte) bool { return isWordStart(c) || isDigit(c) || c == '$' }

// next returns the next token, tokenEnd at the end, or what is wrong with the text.
func (l *lexer) next() (token, *Refusal) {
	if r := l.blank(); r != nil {
		return token{}, r
	}
	start := l.at
	if start >= len(l.sql) {
		return token{kind: tokenEnd, start: start, end: start}, nil
	}
	c := l.sql[start]
	switch {
	case c == '\'':
		return l.quoted(tokenString, start, start+1, false)
	case c == '"':
		return l.quoted(tokenQuoted, start, start+1, false)
	case c == '$':
		return l.dollar(start)
	case c == '?':
		l.at++
		return token{tokenParameter, start, l.at}, nil
	case isDigit(c):
		return l.number(start)
	case isWordStart(c):
		if start+1 < len(l.sql) && l.sql[start+1] == '\'' && strings.IndexByte("eEbBxXnN", c) >= 0 {
			return l.quoted(tokenString, start, start+2, c == 'e' || c == 'E')
		}
		for l.at < len(l.sql) && isWordPart(l.sql[l.at]) {
			l.at++
		}
		return token{tokenWord, start, l.at}, nil
	}
	l.at++
	return token{tokenSymbol, start, l.at}, nil
}

// blank skips white space and comments.
func (l *lexer) blank() *Refusal {
	for l.at < len(l.sql) {
		switch c := l.sql[l.at]; {
		case isSpace(c):
			l.at++
		case c == '-' && strings.HasPrefix(l.sql[l.at:], "--"):
			l.lineComment()
		case c == '/' && strings.HasPrefix(l.sql[l.at:], "/*"):
			if r := l.comment(); r != nil {
				return r
			}
		default:
			return nil
		}
	}
	return nil
}

func (l *lexer) lineComment() {
	if n := strings.IndexAny(l.sql[l.at:], "\n\r"); n >= 0 {
		l.at += n
	} else {
		l.at = len(l.sql)
	}
}

func (l *lexer) comment() *Refusal {
	start, depth := l.at, 0
	for l.at < len(l.sql) {
		switch {
		case strings.HasPrefix(l.sql[l.at:], "/*"):
			depth++
			if l.deepest = max(l.deepest, depth); depth > maxComments {
				return refuse(TooLarge, l.at, "", "Comments are nested more than %d deep.", maxComments)
			}
			l.at += 2
		case strings.HasPrefix(l.sql[l.at:], "*/"):
			depth--
			l.at += 2
			if depth == 0 {
				return nil
			}
		default:
			l.at++
		}
	}
	return refuse(Syntax, start, "Close it with */.", "A comment begins and does not end.")
}

// quoted reads to the closing quote, which is the byte before from.
func (l *lexer) quoted(kind tokenKind, start, from int, escapes bool) (token, *Refusal) {
	quote := l.sql[from-1]
	for l.at = from; l.at < len(l.sql); {
		c := l.sql[l.at]
		switch {
		case c == '\\' && escapes:
			l.at += 2
		case c != quote:
			l.at++
		case l.at+1 < len(l.sql) && l.sql[l.at+1] == quote:
			l.at += 2
		default:
			l.at++
			if escapes && l.goesOn() {
				continue
			}
			return token{kind, start, l.at}, nil
		}
	}
	l.at = len(l.sql)
	if kind == tokenQuoted {
		return token{}, refuse(Syntax, start, `Close it with ".`, "A quoted name begins and does not end.")
	}
	return token{}, refuse(Syntax, start, "Close it with '.", "A string begins and does not end.")
}

// goesOn finds the quote by which a literal goes on in a later line, in the same mode, and moves behind it.
func (l *lexer) goesOn() bool {
	back, line := l.at, false
	for l.at < len(l.sql) {
		c := l.sql[l.at]
		switch {
		case c == '\n' || c == '\r':
			line = true
			l.at++
			continue
		case isSpace(c):
			l.at++
			continue
		case strings.HasPrefix(l.sql[l.at:], "--"):
			l.lineComment()
			continue
		case c == '\'' && line:
			l.at++
			return true
		}
		break
	}
	l.at = back
	return false
}

// dollar reads $tag$..$tag$, or a parameter.
func (l *lexer) dollar(start int) (token, *Refusal) {
	l.at++
	for l.at < len(l.sql) && (isWordStart(l.sql[l.at]) || isDigit(l.sql[l.at])) {
		l.at++
	}
	numbered := start+1 < l.at && isDigit(l.sql[start+1])
	if l.at < len(l.sql) && l.sql[l.at] == '$' && !numbered {
		l.at++
		tag := l.sql[start:l.at]
		n := strings.Index(l.sql[l.at:], tag)
		if n < 0 {
			return token{}, refuse(Syntax, start, "", "A string begins with %s and does not end.", shown(tag))
		}
		l.at += n + len(tag)
		return token{tokenString, start, l.at}, nil
	}
	return token{tokenParameter, start, l.at}, nil
}

// number reads digits, a fraction and an exponent. Only its end matters, and only as far as no quote is in it.
func (l *lexer) number(start int) (token, *Refusal) {
	for l.at < len(l.sql) && (isDigit(l.sql[l.at]) || l.sql[l.at] == '.' || l.sql[l.at] == '_') {
		l.at++
	}
	return token{tokenNumber, start, l.at}, nil
}

// word is a token's text when it is a keyword or a name without quotes, in small letters; else "".
func (l *lexer) word(t token) string {
	if t.kind != tokenWord {
		return ""
	}
	return fold(l.sql[t.start:t.end])
}

// name is the name that a token gives a table: an identifier, quoted or not, or a string.
func (l *lexer) name(t token) (string, bool) {
	text := l.sql[t.start:t.end]
	switch {
	case t.kind == tokenWord:
		return text, true
	case t.kind == tokenQuoted:
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`), true
	case t.kind == tokenString && text[0] == '\'':
		return strings.ReplaceAll(text[1:len(text)-1], `''`, `'`), true
	}
	return "", false
}
