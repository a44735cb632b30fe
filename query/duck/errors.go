package duck

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemark-io/tidemark/query"
)

// describedError is an error as DuckDB writes it with errors_as_json.
type describedError struct {
	Type     string `json:"exception_type"`
	Message  string `json:"exception_message"`
	Position string `json:"position"`
}

// statementError turns what DuckDB says of a statement into the error that callers act on. Pure.
func statementError(text string) error {
	d := describedError{Message: text}
	if kind, rest, ok := strings.Cut(text, " Error: "); ok && !strings.ContainsAny(kind, "{\n") { // errors of the parser come so
		d.Type, d.Message = kind, rest
	}
	if structured := (describedError{}); json.Unmarshal([]byte(d.Message), &structured) == nil && structured.Type != "" {
		d = structured
	}
	kind := strings.ToLower(d.Type)
	switch {
	case strings.Contains(kind, "out of memory"):
		if strings.Contains(d.Message, "failed to offload") {
			return fmt.Errorf("%w: %s", query.ErrTemp, firstLine(d.Message))
		}
		return fmt.Errorf("%w: %s", query.ErrMemory, firstLine(d.Message))
	case kind == "io" && strings.Contains(strings.ToLower(d.Message), "no space left"):
		return fmt.Errorf("%w: %s", query.ErrTemp, firstLine(d.Message))
	}
	position := -1
	if n, err := strconv.Atoi(d.Position); err == nil && n >= 0 {
		position = n
	}
	return &query.StatementError{Kind: kind, Message: strings.TrimSpace(d.Message), Position: position}
}

// firstLine leaves out DuckDB's advice, which is about settings that our users cannot change.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
