package ingest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/meta"
)

// Many who look at once share one question, but none is told what was true before they came.
func TestLooksAreSharedAndNeverStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancel(t.Context())
		var work sync.WaitGroup
		reads := &revisionReads{life: life, work: &work}
		asked := 0
		answer := make(chan meta.Revision)
		ask := func(ctx context.Context) (meta.Revision, error) {
			asked++
			select {
			case revision := <-answer:
				return revision, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		got := make(map[meta.Revision]int)
		var mu sync.Mutex
		look := func(times int) {
			for range times {
				work.Go(func() {
					revision, err := reads.read(t.Context(), ask)
					if err != nil {
						revision = -1
					}
					mu.Lock()
					defer mu.Unlock()
					got[revision]++
				})
			}
			synctest.Wait()
		}
		look(1)
		look(1000)
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		answer <- 7
		synctest.Wait()
		if got[7] != 1 || len(got) != 1 {
			t.Errorf("%v: those who came later share the next answer", got)
		}
		answer <- 8
		synctest.Wait()
		if got[8] != 1000 || asked != 2 || reads.running {
			t.Errorf("%v after %d questions", got, asked)
		}
		// etcd does not answer, and then the router ends.
		look(3)
		end()
		reads.close()
		work.Wait()
		if got[-1] != 3 {
			t.Errorf("%v", got)
		}
		if _, err := reads.read(t.Context(), ask); !errors.Is(err, errClosing) {
			t.Error(err)
		}
	})
}
