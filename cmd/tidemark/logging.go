package main

import (
	"io"
	"log/slog"
	"strings"
)

// newLogger writes text for people on a terminal and JSON for machines elsewhere.
func newLogger(w io.Writer, tty bool, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.TrimSpace(level))); err != nil {
		return nil, usagef("use --log-level debug, info, warn or error", "unknown log level %q", level)
	}
	options := &slog.HandlerOptions{Level: l}
	if tty {
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), nil
}
