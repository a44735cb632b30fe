package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tidemark-io/tidemark/query/render"
)

// The exit codes are part of the command line's contract.
const (
	exitOK          = 0
	exitFailed      = 1   // the command failed
	exitUsage       = 2   // it was called in a wrong way: arguments, flags, settings
	exitPartly      = 3   // a part of the records was acknowledged, the rest was not
	exitNotFound    = 4   // the topic, partition or offset does not exist
	exitUnreachable = 5   // no answer from the server
	exitInterrupted = 130 // SIGINT or SIGTERM, as shells report it
)

// failure is an error that knows its exit code and what the user can do about it.
type failure struct {
	code int
	next string // one line, may be empty
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail returns an error that ends the command with code. next is the user's next step, one line.
func fail(code int, next, format string, args ...any) error {
	return &failure{code: code, next: next, err: fmt.Errorf(format, args...)}
}

// usagef is fail for wrong usage.
func usagef(next, format string, args ...any) error { return fail(exitUsage, next, format, args...) }

// asUsage makes err a usage error unless it already says what it is.
func asUsage(err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	return &failure{code: exitUsage, next: "run `tidemark --help`, or `--help` behind the command", err: err}
}

// report prints err as `tidemark: <what failed>: <cause>` and a line with the next step, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	f := a.classify(ctx, err)
	if text := oneLine(f.Error()); text != "" {
		a.tellf("tidemark: %s\n", text)
	}
	if f.next != "" {
		a.tellf("%s\n", oneLine(f.next))
	}
	return f.code
}

// tellf writes to standard error. There is nobody left to hear that it failed.
func (a *app) tellf(format string, args ...any) { _, _ = fmt.Fprintf(a.stderr, format, args...) }

// oneLine keeps an error on its line, and the terminal as it is, whatever a server or a record put into it.
func oneLine(s string) string {
	return render.Escape(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}
