package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	maxHistory     = 1000
	maxHistoryFile = 1 << 20 // bytes that are read of it
)

// history is what was asked at the prompt, the newest last, in a file of one line each. It is the History of a term.Terminal,
// which reads it; statements are added when they are complete.
type history struct {
	file    string // "" keeps nothing
	entries []string
}

// historyFile is where the history is kept: in the user's directory for the state of programs.
func historyFile(environ []string) string {
	get := func(name string) string {
		for _, e := range environ {
			if value, ok := strings.CutPrefix(e, name+"="); ok && filepath.IsAbs(value) {
				return value
			}
		}
		return ""
	}
	const name = "sql_history"
	if dir := get("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "tidemark", name)
	}
	if runtime.GOOS == "windows" {
		if dir := get("LOCALAPPDATA"); dir != "" {
			return filepath.Join(dir, "tidemark", name)
		}
		return ""
	}
	if home := get("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "tidemark", name)
	}
	return ""
}

// openHistory reads the history of earlier prompts. That it cannot be read is no reason not to ask.
func openHistory(file string) *history {
	h := &history{file: file}
	if file == "" {
		return h
	}
	f, err := os.Open(file)
	if err != nil {
		return h
	}
	defer func() { _ = f.Close() }() // what was read stays read
	if info, err := f.Stat(); err == nil && info.Size() > maxHistoryFile {
		if _, err := f.Seek(-maxHistoryFile, io.SeekEnd); err != nil {
			return h
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxHistoryFile))
	if err != nil {
		return h
	}
	for line := range strings.Lines(string(b)) {
		h.append(strings.TrimRight(line, "\r\n"))
	}
	return h
}

// Add is called for each line that is typed; whole statements come by remember.
func (h *history) Add(string) {}

// Len is the number of entries.
func (h *history) Len() int { return len(h.entries) }

// At returns an entry, 0 the newest.
func (h *history) At(i int) string { return h.entries[len(h.entries)-1-i] }

func (h *history) append(entry string) {
	if strings.TrimSpace(entry) == "" || len(h.entries) > 0 && h.entries[len(h.entries)-1] == entry {
		return
	}
	h.entries = append(h.entries, entry)
	if len(h.entries) > maxHistory {
		h.entries = h.entries[1:]
	}
}

// remember adds what was typed, and keeps it for later prompts; lines become one, unless a comment reaches to the end of one of them.
func (h *history) remember(text string) error {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "--") {
		for line := range strings.Lines(text) {
			h.append(strings.TrimRight(line, "\r\n"))
		}
	} else {
		h.append(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
	}
	return h.save()
}

// save writes a new file and puts it in place of the old one. Statements may hold what is nobody else's business.
func (h *history) save() error {
	if h.file == "" {
		return nil
	}
	dir := filepath.Dir(h.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".sql_history.*") // for its owner only
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(h.entries, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), h.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
