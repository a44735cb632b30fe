package ingest

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Limits of what one client makes the group service hold.
const (
	// maxGroupEntries is how many offsets, partitions, topics or seeks one request names.
	maxGroupEntries = 10_000
	// groupEntryBytes is about what an entry takes in memory besides its texts: a message of it and what is made of that.
	groupEntryBytes = 256
	// maxSeeks is how many seeks one request of a client has: each has its topic described by the leaders of it.
	maxSeeks = 1_000
	// maxGroupName is the longest name of a member, an instance or a strategy; a client's name is cut to maxClientName.
	maxGroupName  = 1024
	maxClientName = 255
	// freeGroupRequest is how large requests may be that are not counted: one call's, or those of one stream together.
	freeGroupRequest = 64 << 10
	// heldGroupRequests is for all other requests together, from when they were received until they are answered.
	heldGroupRequests = 128 << 20
)

// groupRequestSize is what a request names, and about what it takes in memory.
func groupRequestSize(m proto.Message) (entries int, bytes int64) {
	partitions := func(topics []*tidemarkv1.TopicPartitions) int {
		n := len(topics)
		for _, t := range topics {
			n += len(t.GetPartitions())
		}
		return n
	}
	switch r := m.(type) {
	case *tidemarkv1.JoinRequest:
		entries = max(len(r.GetTopics()), partitions(r.GetOwned()))
	case *tidemarkv1.CommitRequest:
		entries = len(r.GetOffsets())
	case *tidemarkv1.GroupCommit:
		entries = len(r.GetOffsets())
	case *tidemarkv1.CommittedRequest:
		entries = partitions(r.GetPartitions())
	case *tidemarkv1.SeekGroupRequest:
		for _, s := range r.GetSeeks() {
			entries += max(1, len(s.GetPartitions()))
		}
	}
	return entries, int64(proto.Size(m)) + int64(entries)*groupEntryBytes
}

// checkGroupRequest refuses requests that would make the node hold or answer more than what it takes, and cuts a client's name.
func checkGroupRequest(m proto.Message) *Error {
	if entries, _ := groupRequestSize(m); entries > maxGroupEntries {
		return Errorf(ReasonTooLarge, "a request names at most %d offsets, partitions or topics, not %d: send several", maxGroupEntries, entries)
	}
	named := []string{}
	switch r := m.(type) {
	case *tidemarkv1.JoinRequest:
		r.ClientId = cutText(r.GetClientId(), maxClientName)
		named = append(named, r.GetMemberId(), r.GetInstanceId(), r.GetStrategy())
	case interface {
		GetMember() *tidemarkv1.Membership
	}:
		named = append(named, r.GetMember().GetMemberId(), r.GetMember().GetInstanceId())
	}
	for _, name := range named {
		if len(name) > maxGroupName {
			return Errorf(ReasonTooLarge, "the name of a member, an instance or a strategy has at most %d bytes, not %d", maxGroupName, len(name))
		}
	}
	return nil
}

// checkSeeks refuses what would become more offsets than a request may name: a seek without partitions is about all of its topic.
func (s *groupService) checkSeeks(r *tidemarkv1.SeekGroupRequest) *Error {
	if len(r.GetSeeks()) > maxSeeks {
		return Errorf(ReasonTooLarge, "a request has at most %d seeks, not %d: name several partitions in one, or send several requests", maxSeeks, len(r.GetSeeks()))
	}
	seat, refused := s.Groups.seat()
	if refused != nil {
		return refused
	}
	partitions := 0
	for _, seek := range r.GetSeeks() {
		if n := len(seek.GetPartitions()); n > 0 {
			partitions += n
		} else if topic, there := seat.Index.Topic(seek.GetTopic()); there {
			partitions += int(topic.Partitions)
		}
	}
	if partitions > maxGroupEntries {
		return Errorf(ReasonTooLarge, "a request seeks in at most %d partitions, not %d: send several", maxGroupEntries, partitions)
	}
	return nil
}

// hold counts a large request until its share is given back; nil is that of a small one. What there is no room for is refused at once: to wait it
// would have to be held.
func (s *groupService) hold(reader *sendReader, size int64) (*sendShare, *Error) {
	if size <= freeGroupRequest {
		return nil, nil
	}
	if share := s.held.tryFor(reader, size); share != nil {
		return share, nil
	}
	s.held.evictStalled()
	return nil, Errorf(ReasonBackPressure, "this node holds %d MiB of large requests to groups, and has no room for one of %d bytes more; send it again later, or in parts",
		heldGroupRequests>>20, size).WithRetryAfter(time.Second)
}

// bound checks the unary calls, and counts the large ones. Their messages need no place among those that are still being received from here on: a join
// may wait for as long as a rebalance takes.
func (s *groupService) bound() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			message, ok := request.Any().(proto.Message)
			if !ok {
				return next(ctx, request)
			}
			if refused := checkGroupRequest(message); refused != nil {
				return nil, ConnectError(refused)
			}
			_, size := groupRequestSize(message)
			if seek, ok := message.(*tidemarkv1.SeekGroupRequest); ok && forwardedOf(ctx) == nil {
				if refused := s.checkSeeks(seek); refused != nil {
					return nil, ConnectError(refused)
				}
			}
			share, refused := s.hold(&sendReader{evict: func() {}}, size)
			if refused != nil {
				return nil, ConnectError(refused)
			}
			defer share.give()
			if body := bodyOf(ctx); body != nil {
				body.settle()
			}
			return next(ctx, request)
		}
	}
}
