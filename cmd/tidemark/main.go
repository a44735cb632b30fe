package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
)

func main() {
	// A reader that goes away must not kill us in the middle of a summary: with the signal ignored, the write fails with
	// EPIPE instead, which run treats as a quiet end.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the command to finish cleanly; from then on the default is back, so that a second one kills.
	context.AfterFunc(ctx, stop)

	a := &app{
		stdin:     os.Stdin,
		stdout:    os.Stdout,
		stderr:    os.Stderr,
		stdinTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		stdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTTY: term.IsTerminal(int(os.Stderr.Fd())),
		environ:   os.Environ,
		clock:     clock.System(),
		fs:        disk.OS(),
		tempDir:   os.TempDir(),

		stdoutGone: readerGone(os.Stdout),
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}
