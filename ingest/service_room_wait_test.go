package ingest

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// fetchOnly is a node that only fetches.
type fetchOnly struct {
	consumeNode
	fetch func(context.Context, FetchRequest) ([]PartitionBatches, error)
}

func (f fetchOnly) Fetch(ctx context.Context, r FetchRequest) ([]PartitionBatches, error) {
	return f.fetch(ctx, r)
}

func (fetchOnly) Ends(context.Context, string) (meta.Topic, []PartitionState, error) {
	return meta.Topic{}, nil, nil
}

// deadlineWriter notes that its connection was ended.
type deadlineWriter struct {
	http.ResponseWriter
	ended *bool
}

func (w deadlineWriter) SetWriteDeadline(time.Time) error {
	*w.ended = true
	return nil
}

// TestWhoWaitedForRoomIsNotEndedForIt: a client that does not read has the room. A stream waits for it, longer than such a client is suffered; once it has its room it has not
// kept anybody waiting yet.
func TestWhoWaitedForRoomIsNotEndedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		room := newSendRoom(limit, clock.System())
		first := room.try(limit, func() {})
		evicted := false
		pieces := []PartitionBatches{{NextOffset: 1}}
		fetch := func(context.Context, FetchRequest) ([]PartitionBatches, error) {
			return []PartitionBatches{{Batches: pieces[0].Batches, NextOffset: 1}}, nil
		}
		pieces[0].Batches = append(pieces[0].Batches, make([]byte, 1000))
		got := make(chan *sendShare, 1)
		go func() {
			ctx := context.WithValue(context.WithValue(t.Context(), sendRoomKey{}, room), streamControlKey{}, http.NewResponseController(deadlineWriter{ended: &evicted}))
			_, share, err := (&consumeService{node: fetchOnly{fetch: fetch}, clock: clock.System()}).fetchInto(ctx, FetchRequest{MaxBytes: limit, MaxWait: streamFetchWait})
			if err != nil {
				t.Error(err)
			}
			got <- share
		}()
		<-clock.System().NewTimer(35 * time.Second).C()
		first.give()
		share := <-got
		// Another one waits: it looks for clients that keep it waiting.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _ = room.take(ctx, limit, func() {})
		if evicted {
			t.Error("a stream that has had its room for 2 s, and has sent nothing yet, was ended for not reading for 30 s")
		}
		share.give()
	})
}
