// Package corpus holds hostile and ordinary SQL, each text with what must become of it, for tests of every layer that is handed SQL by
// someone else.
//
// # Format
//
// The file is text. A line that begins with "--- " begins a case and holds what is expected: OK (it may run), RUNS (it passes the sandbox,
// and a limit of the engine must stop it), or the reason of the refusal. A name may follow. The lines up to the next such line are the SQL, without
// the last line break. Lines before the first case are remarks.
//
// In the SQL, «…» stand for what a text file cannot show: «n text» is the text n times (no « inside), «nested n open|close» is the opening text n times,
// whatever follows up to «/nested», and the closing text n times; «hex 00ff» are bytes, and «count n text» is the text n times with each # replaced by
// the number of its turn.
package corpus

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

//go:embed testdata/hostile.sql
var hostile string

// Expectations that are no reasons of refusals.
const (
	// OK is expected of what may run.
	OK = "OK"
	// Runs is expected of what passes the sandbox and must be stopped by the engine's limits.
	Runs = "RUNS"
)

// Case is one text and what must become of it.
type Case struct {
	// Line is where the case begins in the file.
	Line int
	// Expect is OK, Runs or a reason of package sandbox.
	Expect string
	Name   string
	SQL    string
}

// Load returns every case, in order of the file.
func Load() ([]Case, error) { return Parse(hostile) }

// Parse reads cases from a text.
func Parse(text string) ([]Case, error) {
	var cases []Case
	var body []string
	flush := func() error {
		if len(cases) == 0 {
			return nil
		}
		c := &cases[len(cases)-1]
		sql, err := expand(strings.Join(body, "\n"))
		if err != nil {
			return fmt.Errorf("read case of line %d: %w", c.Line, err)
		}
		c.SQL = sql
		return nil
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if head, ok := strings.CutPrefix(line, "--- "); ok {
			if err := flush(); err != nil {
				return nil, err
			}
			expect, name, _ := strings.Cut(head, " ")
			cases = append(cases, Case{Line: i + 1, Expect: expect, Name: name})
			body = body[:0]
			continue
		}
		body = append(body, line)
	}
	return cases, flush()
}

// expand replaces what stands in «…».
func expand(s string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "«")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		order, after, found := strings.Cut(rest, "»")
		if !found {
			return "", fmt.Errorf("« without » in %.40q", rest)
		}
		s = after
		word, arguments, _ := strings.Cut(order, " ")
		if word == "hex" {
			raw, err := hex.DecodeString(arguments)
			if err != nil {
				return "", fmt.Errorf("read %q: %w", order, err)
			}
			b.Write(raw)
			continue
		}
		kind := "repeat"
		if word == "nested" || word == "count" {
			kind = word
			word, arguments, _ = strings.Cut(arguments, " ")
		}
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > 4<<20 {
			return "", fmt.Errorf("read a number in %q", order)
		}
		switch kind {
		case "nested":
			opening, closing, ok := strings.Cut(arguments, "|")
			inner, after, end := strings.Cut(s, "«/nested»")
			if !ok || !end {
				return "", fmt.Errorf("«nested» of another form: %q", order)
			}
			b.WriteString(strings.Repeat(opening, n) + inner + strings.Repeat(closing, n))
			s = after
		case "count":
			for i := range n {
				b.WriteString(strings.ReplaceAll(arguments, "#", strconv.Itoa(i)))
			}
		default:
			b.WriteString(strings.Repeat(arguments, n))
		}
	}
}
