package sandbox

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Reasons of refusals.
const (
	// Syntax: the text is no SQL, as far as the engine's parser knows.
	Syntax = "SYNTAX"
	// Empty: there is nothing but white space and comments.
	Empty = "EMPTY"
	// NotOneStatement: there is more than one statement.
	NotOneStatement = "NOT_ONE_STATEMENT"
	// StatementNotAllowed: it is no query.
	StatementNotAllowed = "STATEMENT_NOT_ALLOWED"
	// FunctionNotAllowed: it calls a function that is not on the list.
	FunctionNotAllowed = "FUNCTION_NOT_ALLOWED"
	// TableNotAllowed: it names a schema or a catalog that queries do not see.
	TableNotAllowed = "TABLE_NOT_ALLOWED"
	// TooLarge: a limit of size or depth.
	TooLarge = "TOO_LARGE"
	// Unsupported: it uses something that is not on the list, such as a parameter.
	Unsupported = "UNSUPPORTED"
)

// Refusal says why a statement may not run, in words for who wrote it. Every error of this package is one.
type Refusal struct { //nolint:errname // it is a refusal before it is an error: the caller shows its parts
	Reason  string
	Message string
	// Next is what to do instead; maybe empty.
	Next string
	// Position is a byte offset into the text that was checked, -1 when there is none.
	Position int
}

func (r *Refusal) Error() string { return r.Message }

func refuse(reason string, position int, next, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...), Next: next, Position: position}
}

// LineColumn says where a byte offset is, both counted from 1, columns in characters. Both are 0 when the position is not inside of
// the text or at its end.
func LineColumn(sql string, position int) (line, column int) {
	if position < 0 || position > len(sql) {
		return 0, 0
	}
	before := sql[:position]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}

// shown is a name of the user's as it stands in a message: short, on one line.
func shown(name string) string {
	const most = 60
	runes := []rune(name)
	if len(runes) > most {
		name = string(runes[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, name)
}
