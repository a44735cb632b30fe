package main

import (
	"strings"
	"unicode/utf8"
)

// statementEnd is the place of the first ';' of text that ends a statement: one that stands in no quotes, dollar quotes or
// comments. It is -1 when the statement goes on.
func statementEnd(text string) int {
	for i := 0; i < len(text); {
		rest := text[i:]
		switch c := text[i]; {
		case c == ';':
			return i
		case c == '\'' || c == '"':
			// A doubled quote ends one quoted part and begins the next, which comes to the same.
			n := strings.IndexByte(rest[1:], c)
			if n < 0 {
				return -1
			}
			i += n + 2
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				return -1
			}
			i += n + 1
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return -1
			}
			i += n + 4
		case c == '$':
			tag := dollarTag(rest)
			if tag == "" || i > 0 && isWord(text[i-1]) {
				i++
				continue
			}
			n := strings.Index(rest[len(tag):], tag)
			if n < 0 {
				return -1
			}
			i += n + 2*len(tag)
		default:
			i++
		}
	}
	return -1
}

// dollarTag is the $$ or $tag$ that text begins with, or "".
func dollarTag(text string) string {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '$':
			return text[:i+1]
		case !isWord(text[i]) || i == 1 && text[i] >= '0' && text[i] <= '9':
			return ""
		}
	}
	return ""
}

// isWord tells whether b is part of a name that needs no quotes. Bytes of characters beyond ASCII are.
func isWord(b byte) bool {
	return b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b >= utf8.RuneSelf
}

// blankStatement tells that there is nothing to run: white space and comments, and maybe a ';'.
func blankStatement(text string) bool {
	for {
		text = strings.TrimLeft(text, " \t\r\n;")
		var ok bool
		switch {
		case text == "":
			return true
		case strings.HasPrefix(text, "--"):
			_, text, ok = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			_, text, ok = strings.Cut(text, "*/")
		default:
			return false
		}
		if !ok {
			return true
		}
	}
}
