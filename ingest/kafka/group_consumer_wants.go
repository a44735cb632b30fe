package kafka

import (
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest/group"
)

// What a client of KIP-848's protocol asks for: topics by name or by pattern, and who assigns how.

// wanted is what a client asks for.
type wanted struct {
	names     []string // sorted
	pattern   *pattern // nil: only names
	strategy  group.Strategy
	rebalance time.Duration
}

// text is the pattern as the client wrote it.
func (w *wanted) text() string {
	if w.pattern == nil {
		return ""
	}
	return w.pattern.text
}

// eager says whether members give up everything before they join.
func (w *wanted) eager() bool { return w.strategy == group.Range }

// equal says whether both ask for the same.
func (w *wanted) equal(other *wanted) bool {
	return w.text() == other.text() && w.strategy == other.strategy && w.rebalance == other.rebalance && slices.Equal(w.names, other.names)
}

// checkHeartbeat refuses what contradicts itself, as Kafka does.
func checkHeartbeat(version int16, q *kmsg.ConsumerGroupHeartbeatRequest) error {
	invalid := func(why string) error { return refuse(kerr.InvalidRequest, "%s", why) }
	switch {
	case q.MemberID == "" && (version > 0 || q.MemberEpoch != epochJoins):
		return invalid("a member has an id")
	case len(q.MemberID) > math.MaxUint8 || len(deref(q.InstanceID)) > math.MaxUint8:
		return invalid("an id has at most 255 bytes")
	case q.MemberEpoch < epochReturns:
		return invalid("an epoch cannot be below -2")
	case q.MemberEpoch != epochJoins:
		return nil
	case q.RebalanceTimeoutMillis <= 0:
		return invalid("a member that joins has a rebalance timeout")
	case len(q.Topics) > 0:
		return invalid("a member that joins owns nothing")
	case q.SubscribedTopicNames == nil && deref(q.SubscribedTopicRegex) == "":
		return invalid("a member that joins subscribes to topics")
	}
	return nil
}

// Names of Kafka's assignors.
const (
	assignorUniform = "uniform"
	assignorRange   = "range"
)

// assignorOf is a strategy as Kafka's clients know it.
func assignorOf(strategy string) string {
	if strategy == string(group.CooperativeSticky) {
		return assignorUniform
	}
	return strategy
}

// asked is what a heartbeat changes of what a member wants; nil: nothing.
type asked struct {
	names    []string
	pattern  *string // "" for none
	strategy *group.Strategy
}

// readWants reads what a heartbeat asks for.
func readWants(q *kmsg.ConsumerGroupHeartbeatRequest) (out asked, err error) {
	if q.ServerAssignor != nil {
		var strategy group.Strategy
		switch *q.ServerAssignor {
		case assignorUniform, "":
			strategy = group.CooperativeSticky
		case assignorRange:
			strategy = group.Range
		default:
			return asked{}, refuse(kerr.UnsupportedAssignor, "the assignor is to be %q or %q", assignorUniform, assignorRange)
		}
		out.strategy = &strategy
	}
	if q.SubscribedTopicNames != nil {
		out.names = slices.Clone(q.SubscribedTopicNames)
		slices.Sort(out.names)
		out.names = slices.Compact(out.names)
	}
	out.pattern = q.SubscribedTopicRegex
	return out, nil
}
