package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestLines(t *testing.T) {
	for input, want := range map[string][]string{
		"":         nil,
		"\n":       {""},
		"a":        {"a"},
		"a\n":      {"a"},
		"a\n\n":    {"a", ""},
		"a\r\nb":   {"a\r", "b"},
		"\n\nx\ny": {"", "", "x", "y"},
	} {
		got, err := readLines(strings.NewReader(input), 10)
		if !errors.Is(err, io.EOF) || strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
			t.Errorf("%q: got %q, %v", input, got, err)
		}
	}
}

func readLines(in io.Reader, limit int) ([]string, error) {
	r := newLineReader(in, limit)
	var lines []string
	for {
		line, err := r.next()
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line))
	}
}

// Lines come out as strings.Split has them, however the input is cut into reads.
func TestLinesAgreeWithSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		input := rapid.SliceOfN(rapid.SampledFrom([]byte("ab\n")), 0, 3000).Draw(t, "input")
		want := strings.Split(string(input), "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		var in io.Reader = bytes.NewReader(input)
		if rapid.Bool().Draw(t, "one byte a read") {
			in = iotest.OneByteReader(in)
		}
		if rapid.Bool().Draw(t, "end with the data") {
			in = iotest.DataErrReader(in)
		}
		got, err := readLines(newInterruptible(t.Context(), in), 3000)
		if !errors.Is(err, io.EOF) || fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(want) {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	})
}

func TestLongLineIsNamed(t *testing.T) {
	for _, limit := range []int{1, 7, 511, 512, 100_000} {
		fits, over := strings.Repeat("x", limit), strings.Repeat("y", limit+1)
		for _, end := range []string{"", "\nbehind"} {
			got, err := readLines(strings.NewReader("\n"+fits+"\n"+over+end), limit)
			if len(got) != 2 || got[1] != fits || !errors.Is(err, errLongLine) || !strings.HasPrefix(err.Error(), "line 3: ") {
				t.Errorf("limit %d: %d lines, %v", limit, len(got), err)
			}
		}
	}
}

// A reader of an input that never ends stops with its context.
func TestInterruptible(t *testing.T) {
	in, feed := io.Pipe()
	defer feed.Close()
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newLineReader(newInterruptible(ctx, in), 10)
	go func() {
		if _, err := feed.Write([]byte("a\nb")); err != nil {
			return
		}
	}()
	if line, err := r.next(); string(line) != "a" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	cancel(cause)
	if _, err := r.next(); !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
}

func BenchmarkLines(b *testing.B) {
	input := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz\n"), 100_000)
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		r := newLineReader(bytes.NewReader(input), 1<<20)
		n := 0
		for {
			if _, err := r.next(); err != nil {
				break
			}
			n++
		}
		if n != 100_000 {
			b.Fatal(n)
		}
	}
}
