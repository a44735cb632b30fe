package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
)

// Fetch sessions (KIP-227). A client that follows thousands of partitions does not name them in each request, and is not told in each answer that there is
// nothing new about them: a session remembers what it asked for and what it was told.
//
//	session id  epoch
//	0           -1     no session                              every partition is named, and answered for
//	any         0      a new one instead of the one named      every partition is named, and answered for; the answer has the id
//	id          1, 2…  the next request of a session           names what is new or has changed, or is forgotten; answers tell what is new
//	id          -1     no session any more
//
// A session belongs to its connection, which has one at most: the newest. Clients whose connection ends begin anew, as they do when a broker restarts.
// What all of them remember together is bounded; beyond that clients are told 0 for an id, which means that they go on without.

const (
	// maxFetchParts is how many partitions a fetch names or a session remembers.
	maxFetchParts = ingest.GreatestFetchParts
	// maxFetchName bounds the names that are remembered; no topic has a longer one.
	maxFetchName = 249
	// fewFetchParts are counted with their connection.
	fewFetchParts = 64
	// keptFetchParts bounds what the sessions of all clients remember, namedFetchParts what the fetches under way name, and queuedFetchParts what those name
	// that wait for their turn to be under way; some fetchPartBytes each, and as many bytes of names count as one.
	fetchPartBytes   = 150
	keptFetchParts   = 1 << 20
	namedFetchParts  = 1 << 20
	queuedFetchParts = 1 << 20
)

// fetchSessions are those of one connection. The goroutine that handles its requests is their only caller, and who ends the connection after it.
type fetchSessions struct {
	last int32 // id given out
	open *fetchSession
	turn int // of fetches without a session: whose partition goes first
}

// fetchSession is what is remembered of one, and for fetches without it what they name.
type fetchSession struct {
	id    int32
	epoch int32 // of the next request
	byID  bool  // topics are named by their ids
	// parts is in the order in which they are served: what was given something goes behind the others.
	parts []*fetchPart
	named map[fetchKey]*fetchPart
	// topics are the names, each once.
	topics    map[fetchTopic]*fetchTopic
	nameBytes int
	share     *room.Share
	held      int // of share
}

// fetchTopic is a topic as the client names it.
type fetchTopic struct {
	name string
	id   [16]byte
}

type fetchKey struct {
	topic     *fetchTopic
	partition int32
}

// fetchPart is one partition that is asked for.
type fetchPart struct {
	fetchKey

	offset   int64
	maxBytes int32
	epoch    int32
	// told is whether the client was told anything yet, and what.
	told       bool
	forgotten  bool
	hwm, start int64
}

// errFetches ends the connection of a client that would have to wait for its turn, where too many do.
var errFetches = errors.New("there are too many fetches of many partitions without a session")

// fetchBegin finds out what a request asks for. A code other than 0 is the answer to all of it. fresh: everything is answered for.
func (s *fetchSessions) fetchBegin(k *call, q *kmsg.FetchRequest) (f *fetchSession, fresh bool, code int16, err error) {
	if n := fetchedParts(q); n > maxFetchParts {
		return nil, false, 0, errTooMany("partitions", n, maxFetchParts)
	}
	for i := range q.Topics {
		if n := len(q.Topics[i].Topic); n > maxFetchName {
			return nil, false, 0, fmt.Errorf("%w: a fetch from a topic with a name of %d bytes; names have at most %d", errFrame, n, maxFetchName)
		}
	}
	if q.SessionEpoch > 0 {
		f, code = s.next(k.version, q)
		if code != 0 {
			return nil, false, code, nil
		}
		f.apply(q, k.version)
		if len(f.parts) > maxFetchParts {
			s.close()
			return nil, false, 0, errTooMany("partitions", len(f.parts), maxFetchParts)
		}
		if !f.resize(k.conn.server.keptParts) {
			s.close()
			return nil, false, kerr.FetchSessionIDNotFound.Code, nil // and the client names all of them
		}
		return f, false, 0, nil
	}
	s.close()
	f = &fetchSession{byID: k.version >= fetchByID, named: make(map[fetchKey]*fetchPart), topics: make(map[fetchTopic]*fetchTopic)}
	f.apply(q, k.version)
	if q.SessionEpoch == 0 && len(f.parts) > 0 && f.resize(k.conn.server.keptParts) {
		s.last = k.conn.server.sessionIDs.Add(1) & math.MaxInt32
		if s.last == 0 {
			s.last = k.conn.server.sessionIDs.Add(1) & math.MaxInt32
		}
		f.id, f.epoch = s.last, 1
		s.open = f
		return f, true, 0, nil
	}
	if n := len(f.parts); n > 1 {
		s.turn %= n
		f.parts = append(f.parts[s.turn:n:n], f.parts[:s.turn]...)
		s.turn++
	}
	return f, true, 0, nil
}

// awaitTurn waits until a fetch without a session may be under way with all that it names.
func (f *fetchSession) awaitTurn(ctx context.Context, s *Server) (err error) {
	parts := int64(f.weight())
	if parts <= fewFetchParts {
		return nil
	}
	if f.share = s.namedParts.Try(parts, nil); f.share != nil {
		return nil
	}
	queued := s.queuedParts.Try(parts, nil)
	if queued == nil {
		return errFetches
	}
	defer queued.Give()
	if f.share, err = s.namedParts.Take(ctx, parts, nil); err != nil {
		return fmt.Errorf("wait for room for a fetch: %w", err)
	}
	return nil
}

// next is the session that a request continues, or the code that says why there is none.
func (s *fetchSessions) next(version int16, q *kmsg.FetchRequest) (*fetchSession, int16) {
	f := s.open
	switch {
	case f == nil || f.id != q.SessionID:
		return nil, kerr.FetchSessionIDNotFound.Code
	case f.epoch != q.SessionEpoch:
		return nil, kerr.InvalidFetchSessionEpoch.Code
	case f.byID != (version >= fetchByID):
		return nil, kerr.FetchSessionTopicIDError.Code
	}
	if f.epoch++; f.epoch < 0 {
		f.epoch = 1
	}
	return f, 0
}

// close forgets the connection's session.
func (s *fetchSessions) close() {
	if s.open != nil {
		s.open.give()
		s.open = nil
	}
}

func fetchedParts(q *kmsg.FetchRequest) (n int) {
	for i := range q.Topics {
		n += len(q.Topics[i].Partitions)
	}
	for i := range q.ForgottenTopics {
		n += len(q.ForgottenTopics[i].Partitions)
	}
	return n
}

// apply takes over what a request names and forgets. Of a partition that is named twice the last counts.
func (f *fetchSession) apply(q *kmsg.FetchRequest, version int16) {
	for i := range q.ForgottenTopics {
		t := &q.ForgottenTopics[i]
		topic := f.topics[asNamed(t.Topic, t.TopicID, version)]
		for _, p := range t.Partitions {
			key := fetchKey{topic: topic, partition: p}
			if part := f.named[key]; part != nil {
				part.forgotten = true
				delete(f.named, key)
			}
		}
	}
	if len(q.ForgottenTopics) > 0 {
		f.prune()
	}
	for i := range q.Topics {
		t := &q.Topics[i]
		topic := f.topic(asNamed(t.Topic, t.TopicID, version))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			key := fetchKey{topic: topic, partition: p.Partition}
			part := f.named[key]
			if part == nil {
				part = &fetchPart{fetchKey: key}
				f.named[key] = part
				f.parts = append(f.parts, part)
			}
			part.offset, part.maxBytes, part.epoch = p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch
		}
	}
}

// asNamed is a topic by the one of its names that counts in a version.
func asNamed(name string, id [16]byte, version int16) fetchTopic {
	if version >= fetchByID {
		return fetchTopic{id: id}
	}
	return fetchTopic{name: name}
}

func (f *fetchSession) topic(t fetchTopic) *fetchTopic {
	known := f.topics[t]
	if known == nil {
		known = &t
		f.topics[t] = known
		f.nameBytes += len(t.name)
	}
	return known
}

// prune drops what is forgotten, and topics of which nothing is left.
func (f *fetchSession) prune() {
	kept, used := f.parts[:0], make(map[*fetchTopic]bool, len(f.topics))
	for _, p := range f.parts {
		if !p.forgotten {
			kept = append(kept, p)
			used[p.topic] = true
		}
	}
	clear(f.parts[len(kept):])
	f.parts = kept
	for name, t := range f.topics {
		if !used[t] {
			delete(f.topics, name)
			f.nameBytes -= len(name.name)
		}
	}
}

// weight is how much a session counts in a room.
func (f *fetchSession) weight() int { return len(f.parts) + f.nameBytes/fetchPartBytes }

// resize has the session hold as much of a room as it remembers; false when there is not as much.
func (f *fetchSession) resize(in *room.Room) bool {
	n := f.weight()
	if n <= fewFetchParts {
		n = 0
	}
	if n == f.held {
		return true
	}
	f.give()
	if n > 0 {
		f.share = in.Try(int64(n), nil)
	}
	if n > 0 && f.share == nil {
		return false
	}
	f.held = n
	return true
}

// give gives back what the session holds of a room.
func (f *fetchSession) give() {
	if f.share != nil {
		f.share.Give()
		f.share, f.held = nil, 0
	}
}

// rotate puts those that were given something behind the others, so that none starves because others always have enough to fill an answer.
func (f *fetchSession) rotate(gave []bool) {
	order := make([]*fetchPart, 0, len(f.parts))
	for _, wanted := range []bool{false, true} {
		for n, p := range f.parts {
			if gave[n] == wanted {
				order = append(order, p)
			}
		}
	}
	f.parts = order
}
