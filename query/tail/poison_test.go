package tail

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// wide is a list of one object with many fields.
func wide() string {
	fields := make([]string, 990)
	for i := range fields {
		fields[i] = fmt.Sprintf(`"f%d":%d`, i, i)
	}
	return `{"a":[{` + strings.Join(fields, ",") + `}]}`
}

// hollow are short documents of many empty objects, each of which takes an entry for every field.
func hollow(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = `{"a":[{}` + strings.Repeat(",{}", 7) + `]}`
	}
	return out
}

// TestHollowLists: documents of some bytes whose lists take a thousand times as much are held in pieces that can be spilled, whether the
// fields are known when they come, or come later while they are in memory or on disk.
func TestHollowLists(t *testing.T) {
	for _, order := range []string{"known", "later, in memory", "later, on disk"} {
		t.Run(order, func(t *testing.T) {
			most := &peak{}
			w := newWorld(t, func(c *Config) {
				most.Allocator, c.Memory = c.Memory, most
				c.Budget = 2 << 20
				if order == "later, on disk" {
					c.Budget = 1
				}
			})
			w.sample = 101
			w.log.create("hollow", 1)
			first := `{"a":[{"f0":1}]}`
			if order == "known" {
				first = wide()
			}
			w.log.write("hollow", 0, first)
			w.log.write("hollow", 0, hollow(500)...)
			w.snapshot("hollow").Release()
			w.log.write("hollow", 0, wide())
			s := w.snapshot("hollow")
			if memory := w.store.Stats()[0].Memory; memory > 12<<20 {
				t.Errorf("%d bytes are in memory", memory)
			}
			w.rows(s, nil)
			if limit := int64(24 << 20); most.most.Load() > limit {
				t.Errorf("%d bytes were taken, more than %d", most.most.Load(), limit)
			}
			w.check(s, "hollow")
			s.Release()
		})
	}
}

// TestHollowWithoutRoom: where they cannot be spilled they do not take memory either, and come in when there is room.
func TestHollowWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		most := &peak{}
		w := newWorld(t, func(c *Config) {
			most.Allocator, c.Memory = c.Memory, most
			c.Budget, c.SpillBytes = 1<<20, 1
		})
		w.sample = 101
		w.log.create("hollow", 1)
		w.log.write("hollow", 0, wide())
		w.log.write("hollow", 0, hollow(500)...)
		for range 5 {
			if _, err := w.store.Snapshot(t.Context(), w.log.topic("hollow"), w.log.ends("hollow"), nil); !errors.Is(err, ErrSpillFull) {
				t.Fatalf("%v", err)
			}
		}
		if limit := int64(24 << 20); most.most.Load() > limit {
			t.Errorf("%d bytes were taken, more than %d", most.most.Load(), limit)
		}
		w.store.pool.mu.Lock()
		w.store.pool.capacity = 1 << 40
		w.store.pool.mu.Unlock()
		sleep(2 * retryRoom)
		synctest.Wait()
		s := w.snapshot("hollow")
		defer s.Release()
		w.check(s, "hollow")
	})
}
