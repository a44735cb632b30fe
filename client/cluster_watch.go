package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

const (
	// believeAfter is how long nodes may be behind what is known before the client concludes that history itself went back, as it does
	// when a cluster is made anew under the same address.
	believeAfter = 10 * time.Second
	// askOldAgain is how long servers that know no metadata stream are left in peace; they may be upgraded meanwhile.
	askOldAgain = 5 * time.Minute
	// goodStream is how long a stream has to last for its end not to count as one more failure.
	goodStream = 5 * time.Second
)

var (
	errTopicsChanged = errors.New("the topics to follow have changed")
	errBehind        = errors.New("the node is behind what is known")
)

// watch keeps one metadata stream open until the client is closed.
func (c *Client) watch() {
	failures := 0
	old := map[*endpoint]bool{} // those without the service
	heard := c.clock.Now()      // when the last message was taken
	for {
		e := c.anyBut(serveLog, old)
		began := c.clock.Now()
		got, err := c.watchOnce(e, heard)
		now := c.clock.Now()
		if c.ctx.Err() != nil {
			return
		}
		if got > 0 {
			heard = now
			clear(old)
		}
		if now.Sub(began) >= goodStream {
			failures = 0
		}
		var wait time.Duration
		switch {
		case errors.Is(err, errTopicsChanged):
			wait = c.backoff(0, 0) // more of them may come
		case connect.CodeOf(err) == connect.CodeUnimplemented:
			old[e] = true
			if !old[c.anyBut(serveLog, old)] {
				continue
			}
			c.log.Info("the server does not tell who leads; it forwards instead", "server", e.url)
			clear(old)
			wait = askOldAgain/2 + time.Duration(c.randomBelow(int64(askOldAgain)))
		case errors.Is(err, errBehind):
			c.avoid(e, false)
			wait = c.backoff(failures, 0)
			failures++
		default:
			c.failed(e, err)
			re := c.errorFrom(e.url, err)
			c.log.Info("metadata stream ended, opening another", "server", e.url, "error", re)
			wait = c.backoff(failures, re.RetryAfter)
			failures++
		}
		t := c.clock.NewTimer(wait)
		select {
		case <-t.C():
		case <-c.ctx.Done():
			t.Stop()
			return
		}
	}
}

// watchOnce reads one stream until it ends, and says how many messages were taken; heard is when the last one was. The error is not nil.
func (c *Client) watchOnce(e *endpoint, heard time.Time) (got int, err error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	k := &c.known
	k.mu.Lock()
	k.asked = make(map[string]bool, len(k.followed))
	for name := range k.followed {
		k.asked[name] = true
	}
	k.view.keep(k.asked)
	topics := slices.Sorted(maps.Keys(k.asked))
	k.reopen = cancel
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.reopen = nil
		k.mu.Unlock()
	}()
	ended := func(err error) (int, error) {
		if cause := context.Cause(ctx); errors.Is(cause, errTopicsChanged) {
			return got, cause
		}
		if err == nil {
			err = errNoStream
		}
		return got, err
	}
	s, err := e.cluster.WatchMetadata(ctx, &tidemarkv1.WatchMetadataRequest{Topics: topics})
	if err != nil {
		return ended(err)
	}
	defer func() {
		cancel(nil)
		if err := s.Close(); err != nil {
			c.log.Debug("close metadata stream", "error", err)
		}
	}()
	for s.Receive() {
		r := s.Msg()
		if !c.apply(r, got == 0 && c.clock.Now().Sub(heard) > believeAfter) {
			return got, fmt.Errorf("metadata of %s at revision %d: %w", e.url, r.GetRevision(), errBehind)
		}
		if got++; got == 1 {
			c.worked(e)
		}
	}
	return ended(s.Err())
}
