package client

import (
	"context"
	"maps"
	"slices"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// read opens a stream and reads it to its end: nil means that the server ended it.
func (r *reader) read(s *readStream) (err error) {
	req := r.cfg.begin
	if s.parts != nil {
		if err := r.locate(s); err != nil {
			return err
		}
		req = r.request(s)
	}
	st, err := s.lane.at.consume.Consume(s.ctx, req)
	if err != nil {
		return err
	}
	defer func() {
		s.cancel() // so that closing does not wait for what is still to come
		if cerr := st.Close(); cerr != nil && err == nil {
			r.c.log.Debug("close consume stream", "error", cerr)
		}
	}()
	for st.Receive() {
		m := st.Msg()
		if err := r.answered(s, m.GetRanges()); err != nil {
			return err
		}
		if pb := m.GetBatches(); pb != nil {
			if err := r.received(s, pb); err != nil {
				return err
			}
		}
		if r.readAll(s) {
			return nil
		}
	}
	return st.Err()
}

// request asks for what a stream's partitions still want.
func (r *reader) request(s *readStream) *tidemarkv1.ConsumeRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	req := &tidemarkv1.ConsumeRequest{Topic: s.lane.topic, TopicId: s.lane.topicID, Partitions: slices.Sorted(maps.Keys(s.parts)), UntilEnd: true}
	offsets := make(map[int32]int64, len(s.parts))
	for n, p := range s.parts {
		offsets[n] = p.next
		req.UntilEnd = req.UntilEnd && p.end != noEnd
	}
	req.From = &tidemarkv1.ConsumeRequest_Offsets{Offsets: &tidemarkv1.StartOffsets{Offsets: offsets}}
	return req
}

// locate resolves where partitions are read from that begin at the log's start or end.
func (r *reader) locate(s *readStream) error {
	var atStart, atEnd []int32
	r.mu.Lock()
	for n, p := range s.parts {
		switch p.next {
		case nextIsStart:
			atStart = append(atStart, n)
		case nextIsEnd:
			atEnd = append(atEnd, n)
		}
	}
	r.mu.Unlock()
	if len(atStart) > 0 {
		found, err := r.listOffsets(s, &tidemarkv1.ListOffsetsRequest{Partitions: atStart, At: &tidemarkv1.ListOffsetsRequest_Start{Start: true}})
		if err != nil {
			return err
		}
		r.located(s, found)
	}
	if len(atEnd) > 0 {
		found, err := r.listOffsets(s, &tidemarkv1.ListOffsetsRequest{Partitions: atEnd, At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
		if err != nil {
			return err
		}
		if err := r.cfg.fromEnd(s.ctx, s.lane.topic, found); err != nil {
			return err
		}
		r.located(s, found)
	}
	return nil
}

func (r *reader) listOffsets(s *readStream, req *tidemarkv1.ListOffsetsRequest) (map[int32]int64, error) {
	req.Topic, req.TopicId = s.lane.topic, s.lane.topicID
	slices.Sort(req.GetPartitions())
	answer, err := s.lane.at.topic.ListOffsets(s.ctx, req)
	if err != nil {
		return nil, err
	}
	found := make(map[int32]int64, len(req.GetPartitions()))
	for _, o := range answer.GetOffsets() {
		found[o.GetPartition()] = o.GetOffset()
	}
	for _, n := range req.GetPartitions() {
		if at, ok := found[n]; !ok || at < 0 {
			return nil, corruptLog(s.lane.topic, "the server does not say where partition %d begins", n)
		}
	}
	return found, nil
}

func (r *reader) located(s *readStream, found map[int32]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.stopped {
		return
	}
	for n, at := range found {
		if p := s.parts[n]; p != nil && p.next < 0 {
			p.next = at
		}
	}
}

// answered notes that the server answers, and with the first answer of a stream that asks for it where partitions begin.
func (r *reader) answered(s *readStream, ranges []*tidemarkv1.ConsumeRange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.stopped {
		return context.Canceled
	}
	if s.answered {
		return nil
	}
	s.answered, r.connected = true, true
	r.c.worked(s.lane.at)
	now := r.c.clock.Now()
	if s.parts == nil {
		if len(ranges) == 0 {
			return corruptLog(s.lane.topic, "the stream does not begin with ranges")
		}
		from := make(map[int32]int64, len(ranges))
		s.parts = make(map[int32]*readPartition, len(ranges))
		for _, g := range ranges {
			p := &readPartition{key: logKey{s.lane.topic, g.GetPartition()}, topicID: s.lane.topicID, next: g.GetFrom(), end: noEnd}
			if r.cfg.begin.GetUntilEnd() {
				p.end = g.GetEnd()
			}
			r.pl.parts[p.key] = p
			s.take(p)
			from[g.GetPartition()] = g.GetFrom()
		}
		r.pl.streams[s.lane] = s
		r.beginning, r.begun, r.beginTry = nil, true, 0
		r.cfg.began(from)
		wake(r.again)
	}
	for _, p := range s.parts {
		p.since = now
	}
	if s.lane.trial > 0 {
		wake(r.again)
	}
	return nil
}

// readAll tells that nothing of a stream is wanted any more.
func (r *reader) readAll(s *readStream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range s.parts {
		if !p.done() {
			return false
		}
	}
	return true
}

// received verifies a piece of a log, gives it to Poll, and waits until that has taken it.
func (r *reader) received(s *readStream, pb *tidemarkv1.PartitionBatches) error {
	r.mu.Lock()
	p := s.parts[pb.GetPartition()]
	if p == nil {
		r.mu.Unlock()
		return corruptLog(s.lane.topic, "partition %d was not asked for", pb.GetPartition())
	}
	from, end, done := p.next, p.end, p.done()
	r.mu.Unlock()
	if done { // the server's end lies behind ours
		return nil
	}
	b, err := verifyPiece(s.lane.topic, pb, from, end, r.cfg.limits)
	if err != nil || b == nil {
		return err
	}
	r.mu.Lock()
	if s.stopped {
		r.mu.Unlock()
		return context.Canceled
	}
	p.next, p.failures, p.since = b.Next, 0, r.c.clock.Now()
	proven := !s.brought && s.lane.trial > 0
	s.brought, s.gave = true, b
	r.ready = append(r.ready, readyPiece{b: b, stream: s})
	r.mu.Unlock()
	wake(r.bell)
	if proven {
		wake(r.again)
	}
	if !s.sleepUntilRoom() {
		return connect.NewError(connect.CodeCanceled, s.ctx.Err())
	}
	return nil
}
