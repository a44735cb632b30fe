package record_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/tidemark-io/tidemark/record"
)

func TestNext(t *testing.T) {
	a := build(t, record.None, []record.Record{{Value: []byte("1")}})
	b := build(t, record.LZ4, []record.Record{{Value: make([]byte, 500)}})
	p := append(bytes.Clone(a), b...)
	first, rest, err := record.Next(p)
	if err != nil || !bytes.Equal(first, a) || !bytes.Equal(rest, b) {
		t.Fatal(err)
	}
	for cut := 1; cut < len(b); cut++ {
		if _, _, err := record.Next(rest[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(cut, err)
		}
	}
	if _, _, err := record.Next(nil); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestLastSequenceWraps(t *testing.T) {
	b := build(t, record.None, make([]record.Record, 10))
	if b.BaseSequence() != 2_147_483_640 || b.LastSequence() != 1 {
		t.Fatal(b.BaseSequence(), b.LastSequence())
	}
}
