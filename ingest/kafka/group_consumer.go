package kafka

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// ConsumerGroupHeartbeat and ConsumerGroupDescribe: the protocol of KIP-848, in which the coordinator assigns. What stands between it and the group's
// machine is a subscriber.

func consumerGroupAPIs() []api {
	return []api{
		{key: int16(kmsg.ConsumerGroupHeartbeat), min: 0, max: 1, skim: skimConsumerGroupHeartbeat, serve: simple(serveConsumerGroupHeartbeat)},
		{key: int16(kmsg.ConsumerGroupDescribe), min: 0, max: 1, serve: simple(serveConsumerGroupDescribe)},
	}
}

// Limits of subscribers.
const (
	// maxSubscribers is how many a node has, and maxSubscriberBytes what they take together with what they want and own.
	maxSubscribers     = 10_000
	maxSubscriberBytes = 64 << 20
	// subscriberBytes is about what one takes that wants and owns nothing.
	subscriberBytes = 2 << 10
	// ownedBytes is what one partition takes that is owned; its topic's name is the index's.
	ownedBytes = 24
	// stringBytes is what a name takes beside its letters.
	stringBytes = 16
)

// subscribers are the members of KIP-848's protocol in the groups of this node.
type subscribers struct {
	server *Server
	subscriberTimes
	work sync.WaitGroup

	// listed is how many groups the node had when it listed them last.
	listed atomic.Int64
	// matching is held by who looks which topics match a pattern.
	matching chan struct{}

	mu         sync.Mutex
	members    map[memberKey]*subscriber
	byInstance map[memberKey]*subscriber
	byMachine  map[memberKey]*subscriber
	patterns   map[string]*pattern // by their text, those that members want
	bytes      int64
}

// subscriberTimes are in Kafka settings of the broker.
type subscriberTimes struct {
	// session is how long a client may be silent, and heartbeat how often it is to say something; soon when something is about to change.
	session, heartbeat, soon time.Duration
	// beatEvery is how often the machine is asked whether it rebalances, and hold how long a client that joins waits for its first assignment.
	beatEvery, hold time.Duration
}

// usualTimes are those of every server that is no test's.
var usualTimes = subscriberTimes{
	session: 45 * time.Second, heartbeat: 3 * time.Second, soon: 500 * time.Millisecond,
	beatEvery: 500 * time.Millisecond, hold: 300 * time.Millisecond,
}

// memberKey is a group with a member's id, instance id or id in the machine.
type memberKey struct{ group, id string }

func newSubscribers(s *Server) *subscribers {
	return &subscribers{
		server: s, subscriberTimes: usualTimes, matching: make(chan struct{}, 1), patterns: make(map[string]*pattern),
		members: make(map[memberKey]*subscriber), byInstance: make(map[memberKey]*subscriber), byMachine: make(map[memberKey]*subscriber),
	}
}

// find is a member by its id; nil when there is none.
func (s *subscribers) find(group, id string) *subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[memberKey{group, id}]
}

// ofMachine is the member for which the machine's member stands; nil when that is no Kafka client.
func (s *subscribers) ofMachine(group, id string) *subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byMachine[memberKey{group, id}]
}

// ofInstance is the member that has an instance id; nil when there is none, or no id.
func (s *subscribers) ofInstance(group, instance string) *subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byInstance[memberKey{group, instance}]
}

// machineID is the id under which the machine knows a member.
func (s *subscribers) machineID(group, id string) string {
	if m := s.find(group, id); m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.machineID != "" {
			return m.machineID
		}
	}
	return id
}

// findOrMake is the member that a client joins as.
func (s *subscribers) findOrMake(k *call, q *kmsg.ConsumerGroupHeartbeatRequest) (*subscriber, error) {
	id, instance := q.MemberID, deref(q.InstanceID)
	if id == "" { // a client of version 0, which is given one
		id = rand.Text()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[memberKey{q.Group, id}]; m != nil && m.instance == instance {
		return m, nil
	} else if m != nil {
		return nil, kerr.InvalidRequest
	}
	if s.byInstance[memberKey{q.Group, instance}] != nil {
		return nil, kerr.UnreleasedInstanceID
	}
	if len(s.members) >= maxSubscribers || s.bytes+subscriberBytes > maxSubscriberBytes {
		return nil, kerr.GroupMaxSizeReached
	}
	m := &subscriber{
		owner: s, group: q.Group, id: id, instance: instance, clientID: k.clientID, host: k.conn.clientHost(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}),
		heard: s.server.Clock.Now(), generation: -1, previous: -1, bytes: subscriberBytes,
	}
	m.ctx, m.cancel = context.WithCancelCause(s.server.ctx)
	s.members[memberKey{m.group, m.id}] = m
	if instance != "" {
		s.byInstance[memberKey{m.group, instance}] = m
	}
	s.bytes += m.bytes
	return m, nil
}

// renamed says that the machine knows the member by another id.
func (s *subscribers) renamed(m *subscriber, before, now string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byMachine, memberKey{m.group, before})
	s.byMachine[memberKey{m.group, now}] = m
}

// weigh counts what a member takes, and gives it the pattern that it wants, nil for none: the one that others have as well. False: there is no room for it.
// The caller holds the member's mu.
func (s *subscribers) weigh(m *subscriber, bytes int64, wanted *pattern) (*pattern, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[memberKey{m.group, m.id}] != m {
		return wanted, true // it ends now, and is not counted any more
	}
	if bytes > m.bytes && s.bytes+bytes-m.bytes > maxSubscriberBytes {
		return nil, false
	}
	if wanted != nil {
		if known := s.patterns[wanted.text]; known != nil {
			wanted = known
		} else if len(s.patterns) >= maxPatterns {
			return nil, false
		}
		s.patterns[wanted.text] = wanted
		wanted.members++
	}
	s.drop(m.pattern)
	m.pattern = wanted
	s.bytes += bytes - m.bytes
	m.bytes = bytes
	return wanted, true
}

// drop says that a member does not want a pattern any more. The caller holds mu.
func (s *subscribers) drop(p *pattern) {
	if p == nil {
		return
	}
	if p.members--; p.members == 0 {
		delete(s.patterns, p.text)
	}
}

// forget takes a member out, unless another has its place already. It may be called twice.
func (s *subscribers) forget(m *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[memberKey{m.group, m.id}] != m {
		return
	}
	delete(s.members, memberKey{m.group, m.id})
	s.bytes -= m.bytes
	s.drop(m.pattern)
	if m.instance != "" {
		delete(s.byInstance, memberKey{m.group, m.instance})
	}
	maps.DeleteFunc(s.byMachine, func(_ memberKey, known *subscriber) bool { return known == m })
}

// Epochs that say something else than an epoch.
const (
	epochJoins   = 0
	epochLeaves  = -1
	epochReturns = -2 // leaves, and will be back under its instance id
)

// serveConsumerGroupHeartbeat is the whole life of a member: it joins, stays and leaves by heartbeats.
func serveConsumerGroupHeartbeat(ctx context.Context, k *call, q *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	out := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	out.MemberEpoch = q.MemberEpoch
	s := k.conn.server.subscribers
	if err := s.heartbeatOf(ctx, k, q, out); err != nil {
		out.ErrorCode, out.ErrorMessage = groupCode(err), messageOf(err)
	}
	return out, nil
}

func (s *subscribers) heartbeatOf(ctx context.Context, k *call, q *kmsg.ConsumerGroupHeartbeatRequest, out *kmsg.ConsumerGroupHeartbeatResponse) error {
	owner, err := s.server.Groups.Coordinator(q.Group)
	if err != nil {
		return err
	}
	if owner.ID != s.server.Self {
		return kerr.NotCoordinator
	}
	if err := checkHeartbeat(k.version, q); err != nil {
		return err
	}
	asked, err := readWants(q) // a pattern is compiled when it is known to be a member's
	if err != nil {
		return err
	}
	index, err := s.server.Cluster.Index()
	if err != nil {
		return err
	}
	m := s.find(q.Group, q.MemberID)
	switch {
	case q.MemberEpoch == epochJoins:
		for _, old := range []*subscriber{m, s.ofInstance(q.Group, deref(q.InstanceID))} {
			if old != nil && old.over() {
				old.leave(ctx, errTold)
			}
		}
		if m, err = s.findOrMake(k, q); err != nil {
			return err
		}
	case m == nil:
		return kerr.UnknownMemberID
	case q.MemberEpoch < epochJoins:
		cause := errLeft
		if q.MemberEpoch == epochReturns && m.instance != "" {
			cause = errReturns
		}
		m.leave(ctx, cause)
		out.MemberID = &m.id
		return nil
	}
	out.MemberID = &m.id
	if err := m.hear(q, asked, index); err != nil {
		return s.tellEnd(ctx, m, err)
	}
	if err := m.awaitFirst(ctx); err != nil {
		return s.tellEnd(ctx, m, err)
	}
	m.answer(q, index, out)
	return nil
}

// tellEnd has the client told why it is no member any more, if so; then that is the end of the member.
func (s *subscribers) tellEnd(ctx context.Context, m *subscriber, err error) error {
	if !m.over() {
		return err
	}
	m.leave(ctx, errTold)
	if group.CodeOf(err) != group.ErrInconsistentGroupProtocol {
		return err
	}
	if view, viewed := s.server.Groups.View(ctx, m.group); viewed == nil && subscribes(view.ProtocolType, len(view.Members)) {
		return refuse(kerr.UnsupportedAssignor, "the members of group %q are assigned to by %q", m.group, assignorOf(view.Protocol))
	}
	return err
}

// hear takes what the client says.
func (m *subscriber) hear(q *kmsg.ConsumerGroupHeartbeatRequest, asked asked, index ingest.ClusterIndex) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return m.ended
	}
	if q.MemberEpoch != epochJoins && q.MemberEpoch != m.epoch && q.MemberEpoch != m.previous {
		return refuse(kerr.FencedMemberEpoch, "the client names epoch %d, the member is at %d", q.MemberEpoch, m.epoch)
	}
	wants := m.wants
	if asked.names != nil {
		wants.names = asked.names
	}
	if asked.pattern != nil && *asked.pattern != wants.text() {
		pattern, err := m.owner.pattern(*asked.pattern)
		if err != nil {
			return m.notTaken(err)
		}
		wants.pattern = pattern
	}
	if asked.strategy != nil {
		wants.strategy = *asked.strategy
	} else if wants.strategy == "" {
		wants.strategy = group.CooperativeSticky
	}
	if q.RebalanceTimeoutMillis > 0 {
		wants.rebalance = millis(q.RebalanceTimeoutMillis)
	}
	reported := m.reported
	if q.Topics != nil {
		reported = ownedOf(q.Topics, index)
	}
	bytes := int64(subscriberBytes + len(reported)*ownedBytes)
	for _, name := range wants.names {
		bytes += stringBytes + int64(len(name))
	}
	if wants.pattern != nil {
		bytes += wants.pattern.bytes
	}
	var taken bool
	if wants.pattern, taken = m.owner.weigh(m, bytes, wants.pattern); !taken {
		return m.notTaken(kerr.GroupMaxSizeReached)
	}
	m.heard = m.owner.server.Clock.Now()
	if m.generation < 0 && m.changes == 0 || !m.wants.equal(&wants) {
		m.wants = wants
		m.changes++
	}
	switch {
	case q.MemberEpoch == epochJoins: // it begins anew, and owns nothing
		m.reported, m.sent, m.unsure, m.previous = nil, nil, nil, -1
	case q.Topics != nil && q.MemberEpoch == m.epoch:
		m.reported, m.unsure = reported, nil
	case q.Topics != nil: // it does not know yet what it was told last
		m.reported = reported
	}
	if !m.started {
		m.started = true
		m.owner.work.Go(m.run)
	}
	m.poke()
	return nil
}

// notTaken forgets the member if it has not begun, because of what the error says.
func (m *subscriber) notTaken(err error) error {
	if !m.started {
		m.owner.forget(m)
	}
	return err
}

// over says whether the member is none any more.
func (m *subscriber) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended != nil
}

// ownedOf are the partitions that a client says it owns, of topics that are there.
func ownedOf(topics []kmsg.ConsumerGroupHeartbeatRequestTopic, index ingest.ClusterIndex) []group.TopicPartition {
	out := []group.TopicPartition{}
	for _, t := range topics {
		topic, there := index.TopicByID(t.TopicID)
		if !there {
			continue // it was deleted
		}
		for _, p := range t.Partitions {
			if p >= 0 {
				out = append(out, group.TopicPartition{Topic: topic.Name, Partition: p})
			}
		}
	}
	return union(out)
}

// awaitFirst waits a moment for the first assignment of a member.
func (m *subscriber) awaitFirst(ctx context.Context) error {
	timer := m.owner.server.Clock.NewTimer(m.owner.hold)
	defer timer.Stop()
	for {
		m.mu.Lock()
		ended, first, changed := m.ended, m.generation >= 0, m.changed
		m.mu.Unlock()
		if ended != nil || first {
			return ended
		}
		select {
		case <-changed:
		case <-timer.C():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// answer tells the client what it is assigned, when that or anything about it is new to the client.
func (m *subscriber) answer(q *kmsg.ConsumerGroupHeartbeatRequest, index ingest.ClusterIndex, out *kmsg.ConsumerGroupHeartbeatResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	target := m.assigned
	if m.giveUp {
		target = nil
	}
	assignment, ids := assignmentOf(target, index)
	changed := !slices.Equal(target, m.sent) || !maps.Equal(ids, m.sentIDs)
	if changed || m.generation > m.epoch || m.epoch == 0 {
		m.previous = -1
		if q.MemberEpoch > epochJoins {
			m.previous = q.MemberEpoch
		}
		m.epoch = max(m.epoch+1, m.generation)
	}
	if changed {
		m.unsure = union(m.unsure, m.sent)
		m.sent, m.sentIDs = target, ids
	}
	out.MemberEpoch = m.epoch
	every := m.owner.heartbeat
	if changed || m.generation < 0 || m.withheld || !m.acknowledged || m.giveUp || m.due {
		every = m.owner.soon
	}
	out.HeartbeatIntervalMillis = int32(every.Milliseconds())
	if changed || q.Topics != nil || q.MemberEpoch != m.epoch {
		out.Assignment = assignment
	}
}

// assignmentOf is an assignment as it is told, and the ids of its topics. What is gone meanwhile is not in it.
func assignmentOf(partitions []group.TopicPartition, index ingest.ClusterIndex) (*kmsg.ConsumerGroupHeartbeatResponseAssignment, map[string]meta.TopicID) {
	out := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	ids := make(map[string]meta.TopicID)
	for _, p := range partitions {
		topic, there := index.Topic(p.Topic)
		if !there {
			continue
		}
		if _, begun := ids[p.Topic]; !begun {
			ids[p.Topic] = topic.ID
			t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
			t.TopicID = topicUUID(topic.ID)
			out.Topics = append(out.Topics, t)
		}
		last := &out.Topics[len(out.Topics)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	return &out, ids
}
