package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// What an object ends with is read from memory once it is stored, and everything else from the store, which is asked again for what has
// become old.
func TestRecentIndexes(t *testing.T) {
	fake := tierfake.New()
	s := &recentIndexes{Store: fake, tails: make(map[string]objectTail)}
	read := func(name string, off int64, want string) (fetched bool) {
		t.Helper()
		before := fake.Count(tierfake.ReadAt)
		p := make([]byte, len(want))
		if err := s.ReadAt(t.Context(), name, p, off); err != nil || string(p) != want {
			t.Fatalf("%s from %d: %q, %v", name, off, p, err)
		}
		return fake.Count(tierfake.ReadAt) > before
	}
	body := [][]byte{[]byte("head"), []byte("batches"), []byte("index"), []byte("footer")}
	fake.FailNext(tierfake.Put, errors.New("no"), tierfake.Before)
	if err := s.Put(t.Context(), "a", body); err == nil || len(s.tails) != 0 {
		t.Fatalf("%d remembered of what is not there: %v", len(s.tails), err)
	}
	for range 2 { // the same bytes again are harmless
		if err := s.Put(t.Context(), "a", body); err != nil {
			t.Fatal(err)
		}
	}
	if read("a", 11, "indexfooter") {
		t.Error("what was just sent is fetched")
	}
	if !read("a", 4, "batches") || !read("a", 11, "index") {
		t.Error("something else than the whole end comes from memory")
	}
	for n := range recentTails {
		if err := s.Put(t.Context(), fmt.Sprint("next-", n), body); err != nil {
			t.Fatal(err)
		}
	}
	if !read("a", 11, "indexfooter") || read("next-0", 11, "indexfooter") || len(s.tails) != recentTails {
		t.Errorf("%d are remembered", len(s.tails))
	}
	if err := s.Put(t.Context(), "large", [][]byte{nil, bytes.Repeat([]byte("x"), recentTailBytes), nil}); err != nil || len(s.tails) != recentTails {
		t.Errorf("%d are remembered, %v", len(s.tails), err)
	}
	if err := s.Put(t.Context(), "short", [][]byte{[]byte("x")}); err != nil {
		t.Error(err)
	}
}
