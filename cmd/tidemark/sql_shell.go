package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/query/render"
)

const shellHelp = `Statements end with ';' and may go over several lines.
  \d         the tables, \d NAME the columns of one
  \q         leave, as Ctrl-D does
  \h         this help
Tab completes names and words of SQL. The arrow keys bring back what was asked.
Ctrl-C ends the query that runs, or drops the statement that is begun.
`

const (
	promptFirst = "tidemark> "
	promptMore  = "       -> "
)

// shell is the prompt.
type shell struct {
	app     *app
	ctx     context.Context
	client  *client.Client
	options client.QueryOptions
	keys    *keyboard
	term    *term.Terminal
	history *history
	words   completion
	wordsAt time.Time // when they were last asked for
	begun   string    // the statement so far
}

// sqlShell asks for statements until the user leaves.
func (a *app) sqlShell(ctx context.Context, c *client.Client, o client.QueryOptions) (err error) {
	if f, ok := a.stdin.(*os.File); ok {
		before, err := term.MakeRaw(int(f.Fd()))
		if err != nil {
			return fmt.Errorf("prepare the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(f.Fd()), before) }() // nothing can be done about a terminal that is gone
	}
	keys := newKeyboard(ctx, a.stdin)
	s := &shell{app: a, ctx: ctx, client: c, options: o, keys: keys, history: openHistory(historyFile(a.environ()))}
	s.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, a.stdout}, promptFirst)
	s.term.History = s.history
	s.term.AutoCompleteCallback = s.tab
	s.print("Connected to " + a.server + `. \h helps, \q leaves.` + "\n")
	for {
		s.resize()
		line, err := s.term.ReadLine()
		switch {
		case errors.Is(err, errInterrupt):
			s.begun = ""
			s.term.SetPrompt(promptFirst)
			s.print("^C\n")
			continue
		case errors.Is(err, io.EOF):
			s.print("\n")
			return nil
		case err != nil && !errors.Is(err, term.ErrPasteIndicator):
			return err
		}
		if leave := s.typed(line); leave {
			return nil
		}
	}
}

// print writes to the terminal. That it is gone is told by the next line that is read.
func (s *shell) print(text string) { _, _ = io.WriteString(s.term, text) }

func (s *shell) resize() {
	if f, ok := s.app.stdout.(*os.File); ok {
		if columns, lines, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && lines > 0 { // some terminals do not know theirs
			_ = s.term.SetSize(columns, lines) // its error is that of writing, see print
		}
	}
}

// typed takes a line, and runs what it completes.
func (s *shell) typed(line string) (leave bool) {
	if s.begun == "" {
		switch command := strings.TrimSuffix(strings.TrimSpace(line), ";"); {
		case command == "":
			return false
		case command == "exit" || command == "quit":
			return true
		case strings.HasPrefix(command, `\`):
			s.remember(command)
			return s.command(command)
		}
	}
	s.begun += line + "\n"
	if len(s.begun) > maxStatement {
		s.begun = ""
		s.print(fmt.Sprintf("the statement is longer than %d bytes\n", maxStatement))
	}
	for {
		end := statementEnd(s.begun)
		if end < 0 {
			break
		}
		statement := s.begun[:end]
		s.remember(s.begun[:end+1])
		s.begun = s.begun[end+1:]
		if !blankStatement(statement) {
			s.ask(statement)
		}
	}
	if blankStatement(s.begun) {
		s.begun = ""
	}
	if s.begun == "" {
		s.term.SetPrompt(promptFirst)
	} else {
		s.term.SetPrompt(promptMore)
	}
	return false
}

func (s *shell) remember(text string) {
	if err := s.history.remember(text); err != nil {
		s.print("the history is not kept: " + render.Escape(err.Error()) + "\n")
		s.history.file = ""
	}
}

func (s *shell) command(command string) (leave bool) {
	name, rest, _ := strings.Cut(command, " ")
	switch name {
	case `\q`:
		return true
	case `\h`, `\?`:
		s.print(shellHelp)
	case `\d`:
		s.describe(strings.TrimSpace(rest))
	default:
		s.print(render.Escape(name) + ` is no command: \h lists them` + "\n")
	}
	return false
}

// ask runs a statement, which Ctrl-C ends.
func (s *shell) ask(statement string) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	var err error
	s.keys.during(func() { cancel(errInterrupt) }, func() {
		err = s.app.ask(ctx, s.client, statement, s.options, s.term, s.width())
	})
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errInterrupt):
		s.print("^C\n")
	default:
		s.fail(statement, err)
	}
}

func (s *shell) width() int { return terminalWidth(s.app.stdout) }

// fail shows an error, below the place in the statement that it is about.
func (s *shell) fail(statement string, err error) {
	text := caret(statement, err)
	f := s.app.classify(s.ctx, err)
	text += render.Escape(oneLine(f.Error())) + "\n"
	if f.next != "" {
		text += render.Escape(oneLine(f.next)) + "\n"
	}
	s.print(text)
}

// caret is the line of the statement that an error is about, and one with a caret below its column; "" when the server does not
// tell.
func caret(statement string, err error) string {
	number, column, ok := placeOf(err)
	lines := strings.Split(statement, "\n")
	if !ok || number > len(lines) {
		return ""
	}
	characters := []rune(lines[number-1])
	if column > len(characters)+1 {
		return ""
	}
	before := render.Escape(string(characters[:column-1]))
	return render.Escape(lines[number-1]) + "\n" + strings.Repeat(" ", displayWidth(before)) + "^\n"
}

// describe shows the tables, or the columns of one.
func (s *shell) describe(name string) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	tables, err := s.client.ListTables(ctx)
	if err != nil {
		s.fail("", doing(err, "list tables"))
		return
	}
	s.words.tables, s.wordsAt = tables, s.app.clock.Now()
	names := make([]string, 0, len(tables))
	list := textTable{names: []string{"table", "columns"}, right: []bool{false, true}}
	for _, t := range tables {
		full := quoteName(t.GetName())
		if t.GetSchema() != "" {
			full = quoteName(t.GetSchema()) + "." + full
		}
		if name != "" && (name == full || name == t.GetName()) {
			list = textTable{names: []string{"column", "type"}, right: []bool{false, false}}
			for _, c := range t.GetColumns() {
				list.add([]string{render.Escape(c.GetName()), render.Escape(c.GetType())})
			}
			names = nil
			break
		}
		names = append(names, full)
		list.add([]string{render.Escape(full), fmt.Sprint(len(t.GetColumns()))})
	}
	if name != "" && names != nil {
		next := `\d lists the tables`
		if n := nearest(name, names); n != "" {
			next = "did you mean " + n + "?"
		}
		s.print(render.Escape(fmt.Sprintf("there is no table %s: %s", name, next)) + "\n")
		return
	}
	if err := list.print(s.term, s.width()); err != nil {
		s.print("print the tables: " + render.Escape(err.Error()) + "\n")
	}
}

// tab completes the word before the cursor.
func (s *shell) tab(line string, pos int, key rune) (newLine string, newPos int, ok bool) {
	if key != '\t' {
		return "", 0, false
	}
	if now := s.app.clock.Now(); s.wordsAt.IsZero() || now.Sub(s.wordsAt) > 30*time.Second {
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		defer cancel()
		if tables, err := s.client.ListTables(ctx); err == nil { // without an answer, the words of SQL are left
			s.words.tables = tables
		}
		s.wordsAt = now
	}
	s.words.begun = s.begun
	newLine, newPos, choices := s.words.complete(line, pos)
	if len(choices) > 0 {
		const most = 100
		text := strings.Join(choices[:min(most, len(choices))], "  ")
		if len(choices) > most {
			text += fmt.Sprintf("  and %d more", len(choices)-most)
		}
		s.print(render.Escape(text) + "\n")
	}
	return newLine, newPos, true
}
