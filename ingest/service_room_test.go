package ingest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func TestRoomToSendIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newSendRoom(100, clock.System())
		evicted := ""
		evict := func(name string) func() { return func() { evicted += name } }
		a, b := room.try(60, evict("a")), room.try(40, evict("b"))
		if a == nil || b == nil || room.try(1, nil) != nil {
			t.Fatal("the room is 100")
		}
		if nothing := room.try(0, nil); nothing == nil {
			t.Fatal("nothing needs no room")
		} else {
			nothing.give()
		}
		// Whoever stops waiting leaves nothing behind.
		gone, cancel := context.WithTimeoutCause(t.Context(), time.Second, errClosing)
		defer cancel()
		if _, err := room.take(gone, 50, nil); !errors.Is(err, errClosing) {
			t.Error(err)
		}
		// Nobody is ended for being slow while nobody waits.
		<-clock.System().NewTimer(time.Hour).C()
		if evicted != "" {
			t.Error("ended", evicted)
		}
		b.sent(10)
		got := make(chan *sendShare)
		go func() {
			share, err := room.take(t.Context(), 500, evict("c"))
			if err != nil {
				t.Error(err)
			}
			got <- share
		}()
		<-clock.System().NewTimer(3 * time.Second).C()
		if evicted != "a" {
			t.Errorf("ended %q, where a alone has sent nothing for long", evicted)
		}
		a.give()
		b.give()
		c := <-got
		if room.try(1, nil) != nil {
			t.Error("who asks for more than there is gets all of it")
		}
		c.give()
		if room.try(100, nil) == nil || len(room.taken) != 1 {
			t.Error("something was not given back")
		}
	})
}

// Two clients that do not read take the room. A third, which does, gets its records all the same, after one of them was ended.
func TestStreamsWhoseClientsDoNotRead(t *testing.T) {
	inRouteWorld(t, 1, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 1, nil)
		for range 4 {
			w.nodes["n1"].mustSend("a", 0, string(make([]byte, 100<<10)))
		}
		w.after(time.Second)
		room := newSendRoom(streamFetchBytes, clock.System())
		service := &consumeService{node: w.nodes["n1"].router, clock: clock.System(), closing: make(chan struct{})}
		request := &tidemarkv1.ConsumeRequest{Topic: "a", From: &tidemarkv1.ConsumeRequest_Start{Start: true}, UntilEnd: true}
		ctx, cancel := context.WithCancelCause(context.WithValue(w.ctx, sendRoomKey{}, room))
		stuck, ended := make(chan struct{}), make(chan error, 3)
		for range 12 {
			go func() {
				_ = service.consume(ctx, request, func(m *tidemarkv1.ConsumeResponse) error {
					if m.GetBatches() != nil {
						select {
						case <-stuck:
						case <-ctx.Done():
							return ctx.Err()
						}
					}
					return nil
				})
				ended <- nil
			}()
		}
		synctest.Wait()
		room.mu.Lock()
		held := int64(0)
		for s := range room.taken {
			held += s.size
		}
		senders := len(room.taken)
		for s := range room.taken {
			s.reader.evict = func() { cancelOnce(stuck) }
		}
		room.mu.Unlock()
		if held > streamFetchBytes || senders < 2 || senders == 12 {
			t.Errorf("%d streams hold %d bytes of a room of %d", senders, held, streamFetchBytes)
		}
		read := 0
		err := service.consume(ctx, request, func(m *tidemarkv1.ConsumeResponse) error {
			read += len(m.GetBatches().GetBatches())
			return nil
		})
		if err != nil || read < 400<<10 {
			t.Errorf("who reads has got %d bytes, %v", read, err)
		}
		cancel(errClosing)
		for range 12 {
			<-ended
		}
		if room.try(streamFetchBytes, nil) == nil {
			t.Error("something was not given back")
		}
	})
}

func cancelOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}
