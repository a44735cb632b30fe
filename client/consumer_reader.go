package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// readerConfig is what makes the reader of a Consumer differ from that of a GroupConsumer.
type readerConfig struct {
	limits   record.Limits
	retryFor time.Duration
	// begin asks where partitions begin, for a reader that is not told; nil for one that is.
	begin *tidemarkv1.ConsumeRequest
	// began hears the answer, before anything is read.
	began func(from map[int32]int64)
	// fromEnd hears where partitions are read from that begin at the end, and may say no for now.
	fromEnd func(ctx context.Context, topic string, from map[int32]int64) error
	// grouped: the partitions were given by a group. Where retention was faster than the group, reading goes on at the log's start; a
	// topic that is not there (any more) is for the coordinator to take away.
	grouped bool
}

// reader reads partitions from their leaders, wherever those move, in order, once each, without a gap. It holds one piece a stream.
type reader struct {
	c      *Client
	cfg    readerConfig
	ctx    context.Context
	cancel context.CancelCauseFunc
	loops  sync.WaitGroup
	again  chan struct{} // wakes the loop that places
	bell   chan struct{} // wakes poll

	mu        sync.Mutex
	pl        placement
	ready     []readyPiece      // in the order in which they came, so that poll takes turns
	follows   map[string]func() // topic → release
	beginning *readStream       // asks where partitions begin
	beginAt   time.Time         // when to ask, while nobody does
	beginTry  int
	begun     bool
	connected bool   // some server has answered
	problem   *Error // to tell once
	fatal     error  // to tell for ever, behind what is ready
}

// readyPiece waits for poll; stream is nil when no stream waits for its room.
type readyPiece struct {
	b      *Batches
	stream *readStream
}

func newReader(c *Client, cfg readerConfig) *reader {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &reader{
		c: c, cfg: cfg, ctx: ctx, cancel: cancel, again: make(chan struct{}, 1), bell: make(chan struct{}, 1), begun: cfg.begin == nil, connected: cfg.grouped,
		pl: placement{parts: map[logKey]*readPartition{}, streams: map[lane]*readStream{}}, follows: map[string]func(){},
	}
}

// start begins to read.
func (r *reader) start() {
	if r.cfg.begin != nil {
		r.follow(r.cfg.begin.GetTopic())
	}
	r.loops.Go(r.place)
}

// close ends everything; poll returns cause from then on.
func (r *reader) close(cause error) {
	r.cancel(cause)
	r.loops.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, release := range r.follows {
		release()
	}
	clear(r.follows)
	r.ready = nil
}

// follow is called with mu held, or before anybody else knows the reader.
func (r *reader) follow(topic string) {
	if r.follows[topic] == nil {
		r.follows[topic] = r.c.follow(topic)
	}
}

// add takes partitions that the reader does not have yet.
func (r *reader) add(parts []*readPartition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.c.clock.Now()
	for _, p := range parts {
		p.since = now
		r.pl.parts[p.key] = p
		r.follow(p.key.topic)
	}
	wake(r.again)
}

// remove forgets partitions: poll returns nothing of them from now on.
func (r *reader) remove(keys []logKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		p := r.pl.parts[key]
		if p == nil {
			continue
		}
		if p.stream != nil {
			delete(r.pl.streams, p.stream.lane)
			s := p.stream
			s.giveUp()
			r.stop(s)
		}
		delete(r.pl.parts, key)
	}
	r.ready = slices.DeleteFunc(r.ready, func(b readyPiece) bool { return r.pl.parts[logKey{b.b.Topic, b.b.Partition}] == nil })
	used := map[string]bool{}
	for key := range r.pl.parts {
		used[key.topic] = true
	}
	for topic, release := range r.follows {
		if !used[topic] {
			release()
			delete(r.follows, topic)
		}
	}
	wake(r.again)
}

// stop ends a stream whose partitions others have; mu is held.
func (r *reader) stop(s *readStream) {
	s.cancel()
	r.ready = slices.DeleteFunc(r.ready, func(b readyPiece) bool { return b.stream == s })
}

// poll waits for the next piece, for ctx, or for other, which is told by errOther.
func (r *reader) poll(ctx context.Context, other <-chan struct{}) (*Batches, error) {
	for {
		if r.ctx.Err() != nil {
			return nil, context.Cause(r.ctx)
		}
		if b, err := r.take(); b != nil || err != nil {
			return b, err
		}
		select {
		case <-r.bell:
		case <-other:
			return nil, errOther
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
}

var errOther = errors.New("something else is to be done")

func (r *reader) take() (*Batches, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.problem; e != nil {
		r.problem = nil
		return nil, e
	}
	if len(r.ready) > 0 {
		next := r.ready[0]
		r.ready[0] = readyPiece{}
		r.ready = r.ready[1:]
		if next.stream != nil {
			next.stream.gave = nil
			wake(next.stream.room)
		}
		return next.b, nil
	}
	if r.fatal != nil {
		return nil, r.fatal
	}
	if !r.begun || len(r.pl.parts) == 0 {
		return nil, nil
	}
	for _, p := range r.pl.parts {
		if !p.done() {
			return nil, nil
		}
	}
	return nil, io.EOF
}

// place keeps the streams where the leaders are.
func (r *reader) place() {
	for {
		changed := r.c.changed()
		r.mu.Lock()
		wait := r.placeOnce(r.c.clock.Now())
		r.mu.Unlock()
		var due <-chan time.Time
		stop := func() bool { return true }
		if wait > 0 {
			timer := r.c.clock.NewTimer(wait)
			due, stop = timer.C(), timer.Stop
		}
		select {
		case <-changed:
		case <-r.again:
		case <-due:
		case <-r.ctx.Done():
		}
		stop()
		if r.ctx.Err() != nil {
			return
		}
	}
}

// placeOnce returns when to place again at the latest, 0 for when something happens.
func (r *reader) placeOnce(now time.Time) (wait time.Duration) {
	if r.fatal != nil || r.ctx.Err() != nil {
		return wait
	}
	if !r.begun {
		switch {
		case r.beginning != nil:
		case r.beginAt.After(now):
			wait = r.beginAt.Sub(now)
		default:
			topic := r.cfg.begin.GetTopic()
			s := &readStream{lane: lane{topic: topic, topicID: r.cfg.begin.GetTopicId(), at: r.whereToBegin()}, opened: now}
			r.beginning = s
			r.open(s)
		}
		return wait
	}
	stop, open, again := r.pl.place(now, r.c)
	for _, s := range stop {
		r.stop(s)
	}
	for _, s := range open {
		r.open(s)
	}
	if !again.IsZero() {
		wait = max(again.Sub(now), time.Millisecond)
	}
	return wait
}

// whereToBegin is who is asked where partitions begin: their leader when they have one, so that its stream goes on, else any node.
func (r *reader) whereToBegin() *endpoint {
	topic, parts := r.cfg.begin.GetTopic(), r.cfg.begin.GetPartitions()
	if len(parts) == 0 {
		n, _, _ := r.c.partitions(topic)
		for i := range n {
			parts = append(parts, i)
		}
	}
	var one *endpoint
	for _, n := range parts {
		e, ok := r.c.leader(topic, n)
		if !ok || one != nil && one != e {
			return r.c.any()
		}
		one = e
	}
	if one == nil {
		return r.c.any()
	}
	return one
}

func (r *reader) open(s *readStream) {
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	s.room = make(chan struct{}, 1)
	r.loops.Go(func() { r.run(s) })
}

// run reads one stream to its end, and sees to what becomes of its partitions.
func (r *reader) run(s *readStream) {
	err := r.read(s)
	s.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.stopped || r.ctx.Err() != nil {
		return
	}
	r.ended(s, err)
	wake(r.again)
	wake(r.bell)
}

// readError is the error of a stream, retryable unless the server or the log says no.
func (r *reader) readError(at string, err error) *Error {
	e := r.c.errorFrom(at, err)
	if retryableRead(e) {
		return e.again()
	}
	return e
}

// again is the error with the word that it is worth to try again.
func (e *Error) again() *Error {
	again := *e
	again.Retryable = true
	return &again
}

// retryableRead: reading again harms nobody, so everything is tried again but what the server or the log says no to.
func retryableRead(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	if e.Retryable {
		return true
	}
	switch e.Code {
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeCanceled:
		return e.Reason == ""
	default:
		return false
	}
}

// ended takes back the partitions of a stream; mu is held.
func (r *reader) ended(s *readStream, err error) {
	now := r.c.clock.Now()
	var left []*readPartition
	tries := r.beginTry
	for _, p := range s.parts {
		p.stream, p.at = nil, nil
		if !p.done() {
			left = append(left, p)
			tries = max(tries, p.failures)
		}
	}
	if s == r.beginning {
		r.beginning = nil
	} else {
		delete(r.pl.streams, s.lane)
	}
	if r.begun && len(left) == 0 {
		return
	}
	if err == nil {
		err = &Error{Code: connect.CodeUnavailable, Message: errNoStream.Error(), Retryable: true, cause: errNoStream}
	}
	e := r.readError(s.lane.at.url, err)
	named, isNamed := namedPartition(e)
	if r.cfg.grouped {
		if isNamed && r.skipExpired(s, s.parts[named], e) {
			return
		}
		// Asked anew for the offsets, a server says which partition is out of range.
		anew := e.Reason == ReasonOffsetOutOfRange && !isNamed && s.brought
		if anew || e.Code == connect.CodeNotFound {
			e = e.again()
		}
	}
	if !e.Retryable {
		r.fail(e)
		return
	}
	r.c.log.Info("consume stream ended, opening another", "server", s.lane.at.url, "topic", s.lane.topic, "partitions", len(left), "error", e)
	r.c.failed(s.lane.at, e)
	if s.healthy(now) {
		tries = 0
	}
	at := now.Add(r.c.backoff(tries, e.RetryAfter)) // one for all, so that they stay together
	tell := !r.connected
	if !r.begun {
		r.beginAt = at
		r.beginTry++
	}
	for _, p := range left {
		if s.healthy(now) {
			p.failures = 0
		}
		if isNamed && p.key.partition != named {
			p.retryAt = now.Add(time.Millisecond)
			continue
		}
		p.failedAt, p.retryAt = s.lane.at, at
		p.failures++
		if now.Sub(p.since) >= r.cfg.retryFor {
			tell, p.since = true, now
		}
	}
	if tell {
		r.problem = e
	}
}

// fail ends reading for good; mu is held. What is ready stays.
func (r *reader) fail(err error) {
	if r.fatal != nil {
		return
	}
	r.fatal = err
	for _, s := range r.pl.streams {
		s.stopped = true
		s.cancel()
	}
	clear(r.pl.streams)
}

// namedPartition is the partition that a server's error is about, where it says so.
func namedPartition(e *Error) (int32, bool) {
	n, err := strconv.ParseInt(e.Metadata["partition"], 10, 32)
	return int32(n), err == nil
}

// skipExpired goes on at the log's start when e says that a partition is read from below it.
func (r *reader) skipExpired(s *readStream, p *readPartition, e *Error) bool {
	start, err := strconv.ParseInt(e.Metadata["log_start_offset"], 10, 64)
	if e.Reason != ReasonOffsetOutOfRange || err != nil || p == nil || p.next < 0 || start <= p.next {
		return false
	}
	hwm, err := strconv.ParseInt(e.Metadata["high_watermark"], 10, 64)
	if err != nil {
		hwm = start
	}
	r.c.log.Warn("retention removed records before they were read", "topic", p.key.topic, "partition", p.key.partition, "from", p.next, "to", start)
	gone := OffsetRange{p.next, start}
	r.ready = append(r.ready, readyPiece{b: &Batches{
		Topic: p.key.topic, Partition: p.key.partition, HighWatermark: hwm, LogStartOffset: start, From: gone.From, Next: gone.To, Lost: []OffsetRange{gone},
		limits: r.cfg.limits,
	}})
	p.next = start
	for _, other := range s.parts {
		other.retryAt = time.Time{}
	}
	return true
}

// sleepUntilRoom waits until Poll has taken what a stream gave; false when the stream is not wanted any more.
func (s *readStream) sleepUntilRoom() bool {
	select {
	case <-s.room:
		return true
	case <-s.ctx.Done():
		return false
	}
}
