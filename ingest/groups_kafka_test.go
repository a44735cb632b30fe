package ingest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// slowGroupStore counts how often all groups are read, and has each read wait.
type slowGroupStore struct {
	GroupStore

	reads atomic.Int64
	wait  chan struct{}
}

func (s *slowGroupStore) StoredGroups(ctx context.Context) ([]meta.StoredGroup, error) {
	s.reads.Add(1)
	select {
	case <-s.wait:
		return s.GroupStore.StoredGroups(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// However many ask for the groups at once, all groups are read twice at most: for whoever came first, and for those who came meanwhile. Who gives up keeps nobody
// else from the answer.
func TestListsOfGroupsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "n1")
		topic := w.topic("orders", 1)
		g := w.nodes["n1"].groups
		if _, err := g.Commit(t.Context(), GroupCommit{Group: "readers", Generation: -1, Offsets: []GroupCommitOffset{{Topic: topic.Name, Offset: 1}}}); err != nil {
			t.Fatal(err)
		}
		store := &slowGroupStore{GroupStore: g.config.Store, wait: make(chan struct{})}
		g.config.Store = store
		impatient, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		list := func(ctx context.Context, want Reason) {
			work.Go(func() {
				if groups, err := g.ListHere(ctx); ReasonOf(err) != want || err == nil && (len(groups) != 1 || groups[0].Name != "readers") {
					t.Errorf("listed %+v, %v", groups, err)
				}
			})
			synctest.Wait()
		}
		list(impatient, ReasonCanceled)
		for range 50 {
			list(t.Context(), "")
		}
		cancel()
		close(store.wait)
		work.Wait()
		if got := store.reads.Load(); got != 2 {
			t.Errorf("all groups were read %d times", got)
		}
		// A list is as new as the question.
		if err := g.Delete(t.Context(), "readers"); err != nil {
			t.Fatal(err)
		}
		if groups, err := g.ListHere(t.Context()); err != nil || len(groups) != 0 {
			t.Errorf("listed %+v, %v", groups, err)
		}
		// Nobody waits for long, nor beyond the end.
		store.wait = make(chan struct{})
		began := clock.System().Now()
		if _, err := g.ListHere(t.Context()); ReasonOf(err) != ReasonUnavailable || clock.System().Now().Sub(began) > groupListPatience {
			t.Errorf("after %s: %v", clock.System().Now().Sub(began), err)
		}
		g.Close()
		if _, err := g.ListHere(t.Context()); !errors.Is(err, errClosing) {
			t.Errorf("closed: %v", err)
		}
	})
}
