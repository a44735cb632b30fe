package wal

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// TestConcurrent appends, syncs, trims and reads at once, as the node does, on both disks.
func TestConcurrent(t *testing.T) {
	for name, config := range map[string]Config{
		"crashdisk": {FS: crashdisk.New(), Dir: testDir, FileBytes: 4000},
		"os":        {FS: disk.OS(), Dir: t.TempDir(), FileBytes: 4000},
	} {
		t.Run(name, func(t *testing.T) {
			const groups, perGroup = 300, 3
			l := mustOpen(t, config)
			var mu sync.Mutex
			var written []entry
			var stopped atomic.Bool
			var group sync.WaitGroup
			group.Go(func() {
				defer stopped.Store(true)
				at := make([]LSN, perGroup)
				for n := range groups {
					frames := []Frame{frameOf(n*perGroup, 100), frameOf(n*perGroup+1, n%50), frameOf(n*perGroup+2, 300)}
					if err := l.Append(frames, at); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for i := range frames {
						written = append(written, entry{at[i], frames[i]})
					}
					mu.Unlock()
				}
			})
			group.Go(func() {
				for last := LSN(0); !stopped.Load(); {
					appended := l.End()
					end, err := l.Sync()
					if err != nil || end < appended || end < last {
						t.Errorf("synced %d after %d, %d appended: %v", end, last, appended, err)
						return
					}
					last = end
				}
			})
			group.Go(func() {
				for !stopped.Load() {
					if end := l.Synced(); end > 20_000 {
						if err := l.Trim(end - 20_000); err != nil {
							t.Error(err)
							return
						}
					}
					if l.Size() < fileHeaderSize || l.Start() > l.End() {
						t.Error("size or start")
					}
				}
			})
			for reader := range 2 {
				group.Go(func() {
					var buf []byte
					for n := reader; !stopped.Load(); n += 7 {
						mu.Lock()
						if len(written) == 0 {
							mu.Unlock()
							continue
						}
						e := written[len(written)-1-n%min(len(written), 100)]
						mu.Unlock()
						f, err := l.Read(e.at, buf)
						if errors.Is(err, ErrTrimmed) {
							continue
						}
						if err != nil || !sameFrame(f, e.frame) {
							t.Errorf("read %d: %v", e.at, err)
							return
						}
						buf = f.Batch
					}
				})
			}
			group.Wait()
			mustClose(t, l)
			l = mustOpen(t, config)
			if n, err := checkHolds(l, written, l.End()); err != nil || n == 0 || l.End() != written[len(written)-1].at+364 {
				t.Fatal(n, err)
			}
			mustClose(t, l)
		})
	}
}
