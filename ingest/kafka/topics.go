package kafka

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// CreateTopics, DeleteTopics and CreatePartitions.
//
// Any node changes topics. Each topic of a request has its own outcome, and an answer comes when all have one or the client's time is up. A topic that was
// made is a success even when its partitions have no leaders by then: as with Kafka's brokers, clients wait for those by asking for metadata.
//
// How many replicas a client asks for is not refused, as long as it is some: the object store keeps the copies, and programs ask for 3 by habit. What is told
// of a topic later is the truth, one replica each: the node that leads.

// topicAdmin is where topics are changed.
type topicAdmin interface {
	FindTopic(ctx context.Context, name string) (meta.Topic, error)
	CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (topic meta.Topic, created bool, err error)
	UpdateTopic(ctx context.Context, name string, config map[string]string) (meta.Topic, error)
	AddPartitions(ctx context.Context, name string, total int32) (meta.Topic, error)
	DeleteTopic(ctx context.Context, name string) error
}

func topicAPIs() []api {
	return []api{
		{key: int16(kmsg.CreateTopics), min: 2, max: 7, serve: simple(serveCreateTopics)},
		{key: int16(kmsg.DeleteTopics), min: 1, max: 6, serve: simple(serveDeleteTopics)},
		{key: int16(kmsg.CreatePartitions), min: 0, max: 3, serve: simple(serveCreatePartitions)},
	}
}

// Patience with changes of topics, which clients bring along.
const (
	adminPatienceLeast = time.Second // none would be no time to do anything
	adminPatienceMost  = time.Minute
	// adminAtOnce is how many changes of one request are under way at once.
	adminAtOnce = 8
)

// adminContext ends when a client does not wait any longer.
func adminContext(ctx context.Context, timeoutMillis int32) (context.Context, context.CancelFunc) {
	patience := time.Duration(timeoutMillis) * time.Millisecond
	return context.WithTimeout(ctx, min(max(patience, adminPatienceLeast), adminPatienceMost))
}

// concurrently calls do for 0 to n-1, a few at once, and returns when all have returned. It panics if one of them does, so that a bug ends the
// connection that has met it, and not the process.
func concurrently(n int, do func(int)) {
	var next atomic.Int64
	var broken atomic.Pointer[string]
	one := func() {
		defer func() {
			if cause := recover(); cause != nil {
				broken.Store(new(fmt.Sprintf("%v\n%s", cause, debug.Stack())))
			}
		}()
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			do(int(i))
		}
	}
	var work sync.WaitGroup
	for range min(n, adminAtOnce) {
		work.Go(one)
	}
	work.Wait()
	if cause := broken.Load(); cause != nil {
		panic(*cause)
	}
}

// adminError makes a code and a message of an error of a change. What may go better in a moment, or at another node, is NOT_CONTROLLER: clients look
// for the controller then, and send the same again.
func adminError(err error) (code int16, message *string) {
	switch ingest.ReasonOf(err) {
	case ingest.ReasonUnavailable, ingest.ReasonShuttingDown, ingest.ReasonNotLeader:
		return kerr.NotController.Code, messageOf(err)
	default:
		return codeOf(err), messageOf(err)
	}
}

// once gives the first of the elements that have the same key, in their order, and the keys that came more than once.
func once[E any, K comparable](all []E, key func(E) K) (first []E, again map[K]bool) {
	again = make(map[K]bool, len(all))
	for _, e := range all {
		k := key(e)
		if _, seen := again[k]; !seen {
			first = append(first, e)
			again[k] = false
		} else {
			again[k] = true
		}
	}
	return first, again
}

func serveCreateTopics(ctx context.Context, k *call, q *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
	if len(q.Topics) > maxNamedTopics {
		return nil, errTooMany("topics", len(q.Topics), maxNamedTopics)
	}
	ctx, cancel := adminContext(ctx, q.TimeoutMillis)
	defer cancel()
	topics, again := once(q.Topics, func(t kmsg.CreateTopicsRequestTopic) string { return t.Topic })
	made, outcomes := make([]meta.Topic, len(topics)), make([]error, len(topics))
	c, err := k.conn.server.topicChanges(k, q.ValidateOnly)
	concurrently(len(topics), func(i int) {
		switch {
		case err != nil:
			outcomes[i] = err
		case again[topics[i].Topic]:
			outcomes[i] = refuse(kerr.InvalidRequest, "the request names topic %q more than once", topics[i].Topic)
		default:
			made[i], outcomes[i] = c.create(ctx, topics[i])
		}
	})
	if err := k.reserve(int64(len(topics)) * int64(len(topicSettings)) * createdSettingBytes); err != nil {
		return nil, err
	}
	out := kmsg.NewPtrCreateTopicsResponse()
	out.Topics = make([]kmsg.CreateTopicsResponseTopic, len(topics))
	for i, err := range outcomes {
		m := kmsg.NewCreateTopicsResponseTopic()
		m.Topic = topics[i].Topic
		if m.ErrorCode, m.ErrorMessage = adminError(err); err == nil {
			m.TopicID, m.NumPartitions, m.ReplicationFactor = topicUUID(made[i].ID), made[i].Partitions, 1
			m.Configs = createdSettings(made[i].Config)
		}
		out.Topics[i] = m
	}
	return out, nil
}

// createdSettingBytes is what one setting takes in the answer, about.
const createdSettingBytes = 256

func createdSettings(c meta.TopicConfig) []kmsg.CreateTopicsResponseTopicConfig {
	settings := settingsOf(c)
	out := make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(settings))
	for _, s := range settings {
		m := kmsg.NewCreateTopicsResponseTopicConfig()
		m.Name, m.Value, m.ReadOnly, m.Source = s.name, new(s.value), s.ours == "", int8(s.source())
		out = append(out, m)
	}
	return out
}

// topicChanges makes the changes of one request.
type topicChanges struct {
	server       *Server
	index        ingest.ClusterIndex
	find         finder
	known        []broker
	validateOnly bool
}

func (s *Server) topicChanges(k *call, validateOnly bool) (*topicChanges, error) {
	index, err := s.Cluster.Index()
	if err != nil {
		return nil, err
	}
	return &topicChanges{server: s, index: index, find: finder{cluster: s.Cluster, index: index}, known: s.brokers(index, k.conn.dialled()), validateOnly: validateOnly}, nil
}

// create makes one topic, or finds out whether it could.
func (c *topicChanges) create(ctx context.Context, q kmsg.CreateTopicsRequestTopic) (meta.Topic, error) {
	if err := meta.ValidateTopicName(q.Topic); err != nil {
		return meta.Topic{}, ingest.Errorf(ingest.ReasonInvalidTopic, "%w", err)
	}
	partitions, err := c.partitions(q)
	if err != nil {
		return meta.Topic{}, err
	}
	settings, err := settingsToCreate(q.Configs)
	if err != nil {
		return meta.Topic{}, err
	}
	config, err := meta.ParseTopicConfig(settings)
	if err != nil {
		return meta.Topic{}, ingest.Errorf(ingest.ReasonInvalidConfig, "create topic %s: %v", q.Topic, err)
	}
	if c.validateOnly {
		if _, err := c.find.named(ctx, q.Topic); err == nil {
			return meta.Topic{}, ingest.Errorf(ingest.ReasonTopicExists, "topic %s exists already", q.Topic)
		} else if ingest.ReasonOf(err) != ingest.ReasonUnknownTopic {
			return meta.Topic{}, err
		}
		return meta.Topic{Name: q.Topic, Partitions: partitions, Config: config}, c.roomFor(partitions)
	}
	topic, created, err := c.server.Cluster.CreateTopic(ctx, q.Topic, partitions, settings, false)
	if created {
		return topic, nil
	}
	return topic, invalidPartitions(err)
}

// partitions is how many partitions a client wants.
func (c *topicChanges) partitions(q kmsg.CreateTopicsRequestTopic) (int32, error) {
	partitions := q.NumPartitions
	if n := len(q.ReplicaAssignment); n > 0 {
		if q.NumPartitions != -1 || q.ReplicationFactor != -1 {
			return 0, refuse(kerr.InvalidRequest, "topic %s: a request that assigns replicas leaves the number of partitions and the replication factor at -1", q.Topic)
		}
		if n > meta.MaxPartitions {
			return 0, refuse(kerr.InvalidPartitions, "topic %s: %d partitions; a topic has 1 to %d", q.Topic, n, meta.MaxPartitions)
		}
		given := make([]bool, n)
		for _, a := range q.ReplicaAssignment {
			if a.Partition < 0 || int(a.Partition) >= n || given[a.Partition] {
				return 0, refuse(kerr.InvalidReplicaAssignment, "topic %s: replicas are assigned to %d partitions, which are not 0 to %d, each once", q.Topic, n, n-1)
			}
			given[a.Partition] = true
			if err := c.assignable(a.Replicas); err != nil {
				return 0, err
			}
		}
		return int32(n), nil
	}
	if q.ReplicationFactor != -1 && q.ReplicationFactor < 1 {
		return 0, refuse(kerr.InvalidReplicationFactor, "topic %s: the replication factor is 1 or more, or -1 for the default; the object store keeps the copies whatever it is", q.Topic)
	}
	if partitions == -1 {
		partitions = c.server.Partitions
	}
	if err := meta.ValidatePartitions(partitions); err != nil {
		return 0, refuse(kerr.InvalidPartitions, "topic %s: %v", q.Topic, err)
	}
	return partitions, nil
}

// assignable refuses an assignment of replicas that nobody could keep: with one node for each partition it is taken as a wish. Which node leads a
// partition is decided by the load of all.
func (c *topicChanges) assignable(replicas []int32) error {
	if len(replicas) != 1 {
		return refuse(kerr.InvalidReplicaAssignment, "a partition has one replica, the node that leads it, not %d: the object store keeps the copies", len(replicas))
	}
	if !slices.ContainsFunc(c.known, func(b broker) bool { return b.id == replicas[0] }) {
		return refuse(kerr.InvalidReplicaAssignment, "there is no node with the number %d", replicas[0])
	}
	return nil
}

// roomFor tells whether the nodes can lead so many partitions more.
func (c *topicChanges) roomFor(partitions int32) error {
	if c.index.Room(partitions) {
		return nil
	}
	return refuse(kerr.InvalidPartitions, "the nodes lead as many partitions as they can, and have no room for %d more", partitions)
}

// invalidPartitions turns INVALID_TOPIC, said of a request whose names are right, into Kafka's word for what remains: that there cannot be
// so many partitions.
func invalidPartitions(err error) error {
	if ingest.ReasonOf(err) != ingest.ReasonInvalidTopic {
		return err
	}
	return refuse(kerr.InvalidPartitions, "%v", err)
}

func settingsToCreate(configs []kmsg.CreateTopicsRequestTopicConfig) (map[string]string, error) {
	configs, again := once(configs, func(c kmsg.CreateTopicsRequestTopicConfig) string { return c.Name })
	out := make(map[string]string)
	for _, c := range configs {
		s, err := findSetting(c.Name)
		switch {
		case err != nil:
			return nil, err
		case again[c.Name]:
			return nil, refuse(kerr.InvalidRequest, "topic setting %s is named more than once", c.Name)
		case c.Value == nil:
			return nil, ingest.Errorf(ingest.ReasonInvalidConfig, "topic setting %s has no value; leave it out for its default", c.Name)
		}
		if err := s.set(*c.Value, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func serveDeleteTopics(ctx context.Context, k *call, q *kmsg.DeleteTopicsRequest) (*kmsg.DeleteTopicsResponse, error) {
	asked := q.Topics
	for _, name := range q.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = new(name)
		asked = append(asked, t)
	}
	if len(asked) > maxNamedTopics {
		return nil, errTooMany("topics", len(asked), maxNamedTopics)
	}
	ctx, cancel := adminContext(ctx, q.TimeoutMillis)
	defer cancel()
	ref := func(t kmsg.DeleteTopicsRequestTopic) topicRef { return refOf(t.Topic, t.TopicID) }
	topics, again := once(asked, ref)
	if err := k.reserve(int64(len(topics)) * topicBytes); err != nil {
		return nil, err
	}
	out := kmsg.NewPtrDeleteTopicsResponse()
	out.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(topics))
	c, err := k.conn.server.topicChanges(k, false)
	concurrently(len(topics), func(i int) {
		m := kmsg.NewDeleteTopicsResponseTopic()
		m.Topic, m.TopicID = topics[i].Topic, topics[i].TopicID
		err := err
		switch {
		case err != nil:
		case again[ref(topics[i])]:
			err = refuse(kerr.InvalidRequest, "the request names a topic more than once")
		default:
			err = c.remove(ctx, &m)
		}
		m.ErrorCode, m.ErrorMessage = adminError(err)
		out.Topics[i] = m
	})
	return out, nil
}

// remove deletes the topic that an answer is about, and completes its name and id.
func (c *topicChanges) remove(ctx context.Context, m *kmsg.DeleteTopicsResponseTopic) error {
	var topic meta.Topic
	var err error
	switch byID := m.TopicID != [16]byte{}; {
	case m.Topic != nil && byID:
		return refuse(kerr.InvalidRequest, "name a topic or give its id, not both")
	case byID:
		topic, err = c.find.withID(m.TopicID)
	case m.Topic == nil:
		return refuse(kerr.InvalidRequest, "the request names no topic")
	default:
		topic, err = c.find.named(ctx, *m.Topic)
	}
	if err != nil {
		return err
	}
	m.Topic, m.TopicID = new(topic.Name), topicUUID(topic.ID)
	return c.server.Cluster.DeleteTopic(ctx, topic.Name)
}

func serveCreatePartitions(ctx context.Context, k *call, q *kmsg.CreatePartitionsRequest) (*kmsg.CreatePartitionsResponse, error) {
	if len(q.Topics) > maxNamedTopics {
		return nil, errTooMany("topics", len(q.Topics), maxNamedTopics)
	}
	ctx, cancel := adminContext(ctx, q.TimeoutMillis)
	defer cancel()
	topics, again := once(q.Topics, func(t kmsg.CreatePartitionsRequestTopic) string { return t.Topic })
	if err := k.reserve(int64(len(topics)) * topicBytes); err != nil {
		return nil, err
	}
	out := kmsg.NewPtrCreatePartitionsResponse()
	out.Topics = make([]kmsg.CreatePartitionsResponseTopic, len(topics))
	c, err := k.conn.server.topicChanges(k, q.ValidateOnly)
	concurrently(len(topics), func(i int) {
		m := kmsg.NewCreatePartitionsResponseTopic()
		m.Topic = topics[i].Topic
		err := err
		switch {
		case err != nil:
		case again[m.Topic]:
			err = refuse(kerr.InvalidRequest, "the request names topic %q more than once", m.Topic)
		default:
			err = c.grow(ctx, topics[i])
		}
		m.ErrorCode, m.ErrorMessage = adminError(err)
		out.Topics[i] = m
	})
	return out, nil
}

// grow raises the number of a topic's partitions, or finds out whether it could.
func (c *topicChanges) grow(ctx context.Context, q kmsg.CreatePartitionsRequestTopic) error {
	topic, err := c.find.named(ctx, q.Topic)
	if err != nil {
		return err
	}
	if q.Count <= topic.Partitions {
		return refuse(kerr.InvalidPartitions, "topic %s has %d partitions, and %d would not be more: the count is the new total", q.Topic, topic.Partitions, q.Count)
	}
	if err := meta.ValidatePartitions(q.Count); err != nil {
		return refuse(kerr.InvalidPartitions, "topic %s: %v", q.Topic, err)
	}
	more := q.Count - topic.Partitions
	if q.Assignment != nil && len(q.Assignment) != int(more) {
		return refuse(kerr.InvalidReplicaAssignment, "topic %s gets %d partitions, and replicas are assigned to %d", q.Topic, more, len(q.Assignment))
	}
	for _, a := range q.Assignment {
		if err := c.assignable(a.Replicas); err != nil {
			return err
		}
	}
	if c.validateOnly {
		return c.roomFor(more)
	}
	grown, err := c.server.Cluster.AddPartitions(ctx, q.Topic, q.Count)
	if err != nil && grown.ID == topic.ID && grown.Partitions >= q.Count {
		return nil // they are there, and have no leaders yet
	}
	return invalidPartitions(err)
}
