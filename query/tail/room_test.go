package tail

import (
	"errors"
	"testing"
	"testing/synctest"
)

// TestOftenQueried: rows that queries seal before they are full go to disk like all others.
func TestOftenQueried(t *testing.T) {
	for _, order := range []string{"read, then asked", "asked while it is read"} {
		t.Run(order, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Budget = 1 << 20 }).sampled()
			w.log.create("orders", 1)
			for i := range 25 {
				w.log.write("orders", 0, orders(i*700, 700)...)
				if order == "read, then asked" || i%2 == 0 {
					w.snapshot("orders").Release()
				}
				if memory := w.store.Stats()[0].Memory; memory > 3<<20 {
					t.Fatalf("%d bytes are in memory after %d rows", memory, (i+1)*700)
				}
			}
			s := w.snapshot("orders")
			defer s.Release()
			w.check(s, "orders")
			if len(w.files()) == 0 {
				t.Error("nothing was spilled")
			}
		})
	}
}

// TestAnswersWithoutRoom: when there is no room any more, what is there is answered as often as it is asked for.
func TestAnswersWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Budget, c.SpillBytes = 1<<20, 1 }).sampled()
		w.log.create("orders", 1)
		for i := range 2 {
			w.log.write("orders", 0, orders(i*700, 700)...)
			w.snapshot("orders").Release()
		}
		w.log.write("orders", 0, orders(1400, 3000)...)
		end := w.log.ends("orders")
		w.log.write("orders", 0, orders(4400, 700)...)
		for range 3 {
			s, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), map[int32]int64{0: 1400}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if s.Rows() < 1400 {
				t.Errorf("%d rows", s.Rows())
			}
			s.Release()
		}
		end[0] += 700
		if _, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), end, nil); !errors.Is(err, ErrSpillFull) {
			t.Errorf("%v", err)
		}
	})
}
