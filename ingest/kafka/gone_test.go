package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// Clients that are gone as soon as they have written, as one does that wants no acknowledgement: what they sent is in the log all the same.
func TestClientThatIsGoneAtOnceHasSaidWhatItSaid(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("said", 1)
	const clients, batches = 20, 5
	for c := range clients {
		wire := w.dial(w.nodes[0])
		for b := range batches {
			wire.send(9, produceOf(topic, 0, plain(t, fmt.Sprint(c, " ", b))))
		}
		w.must(wire.Close())
	}
	for len(w.values(topic, 0)) < clients*batches {
		select {
		case <-clock.System().NewTimer(5 * time.Millisecond).C():
		case <-w.ctx.Done():
			t.Fatalf("%d of %d records are in the log", len(w.values(topic, 0)), clients*batches)
		}
	}
	for w.nodes[0].server.open.Load() > 0 {
		select {
		case <-clock.System().NewTimer(5 * time.Millisecond).C():
		case <-w.ctx.Done():
			t.Fatalf("%d connections of clients that are gone are left", w.nodes[0].server.open.Load())
		}
	}
}
