package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// ApiVersions and Metadata: what every client asks first.

func metadataAPIs() []api {
	return []api{
		{key: int16(kmsg.ApiVersions), min: 0, max: 4, serve: simple(serveAPIVersions)},
		{key: int16(kmsg.Metadata), min: 0, max: 13, serve: simple(serveMetadata)},
	}
}

// maxNamedTopics is how many topics a request may name.
const maxNamedTopics = 10_000

func serveAPIVersions(_ context.Context, k *call, q *kmsg.ApiVersionsRequest) (*kmsg.ApiVersionsResponse, error) {
	if q.ClientSoftwareName != "" {
		k.conn.software = cutClientID(q.ClientSoftwareName + " " + q.ClientSoftwareVersion)
	}
	out := kmsg.NewPtrApiVersionsResponse()
	out.ApiKeys = offered()
	return out, nil
}

// tooNew answers an ApiVersions of a version that is not known, in a form that every client reads: UNSUPPORTED_VERSION in version 0, with what is
// served (KIP-511).
func (k *call) tooNew() error {
	out := kmsg.NewPtrApiVersionsResponse()
	out.ErrorCode = kerr.UnsupportedVersion.Code
	out.ApiKeys = offered()
	k.version = 0
	k.answer(out)
	return nil
}

func serveMetadata(ctx context.Context, k *call, q *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) {
	if len(q.Topics) > maxNamedTopics {
		return nil, errTooMany("topics", len(q.Topics), maxNamedTopics)
	}
	s := k.conn.server
	out := kmsg.NewPtrMetadataResponse()
	out.AuthorizedOperations = unknownOperations
	index, err := s.Cluster.Index()
	if err != nil {
		if err := k.reserve(int64(len(q.Topics)) * topicBytes); err != nil {
			return nil, err
		}
		// Without any broker in it clients ask again, here or at another bootstrap address.
		for _, t := range q.Topics {
			out.Topics = append(out.Topics, unavailableTopic(t, err))
		}
		return out, nil
	}
	out.ClusterID = s.clusterID(ctx)
	known := s.brokers(index, k.conn.dialled())
	for _, b := range known {
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host, m.Port, m.Rack = b.id, b.host, b.port, rack(b.zone)
		out.Brokers = append(out.Brokers, m)
	}
	out.ControllerID = BrokerID(s.Self) // whoever is asked passes changes of topics on
	if q.Topics == nil || len(q.Topics) == 0 && k.version == 0 {
		topics := topicsByName(index)
		if err := k.reserve(describedBytes(topics...)); err != nil {
			return nil, err
		}
		for _, t := range topics {
			out.Topics = append(out.Topics, topicMetadata(index, known, t))
		}
		return out, nil
	}
	create := s.AutoCreateTopics && (k.version < 4 || q.AllowAutoTopicCreation)
	find := finder{cluster: s.Cluster, index: index}
	topics, _ := once(q.Topics, func(t kmsg.MetadataRequestTopic) topicRef { return refOf(t.Topic, t.TopicID) })
	out.Topics = make([]kmsg.MetadataResponseTopic, len(topics))
	found := make([]meta.Topic, len(topics))
	var missing []int
	for i, asked := range topics {
		var err error
		found[i], err = find.asked(ctx, asked)
		switch {
		case err == nil:
		case create && ingest.ReasonOf(err) == ingest.ReasonUnknownTopic:
			missing = append(missing, i)
		default:
			out.Topics[i] = unavailableTopic(asked, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, autoCreatePatience)
	defer cancel()
	concurrently(len(missing), func(n int) {
		asked := topics[missing[n]]
		// Others may be making the same one now; whoever comes second gets what the first one made.
		topic, _, err := s.Cluster.CreateTopic(ctx, *asked.Topic, s.Partitions, nil, true)
		if err != nil {
			out.Topics[missing[n]] = unavailableTopic(asked, err)
			return
		}
		found[missing[n]] = topic
	})
	if err := k.reserve(describedBytes(found...)); err != nil {
		return nil, err
	}
	for i, t := range found {
		if t.Partitions > 0 {
			out.Topics[i] = topicMetadata(find.index, known, t)
		}
	}
	return out, nil
}

// topicRef is how a request names a topic: by its name or its id.
type topicRef struct {
	name  string
	id    [16]byte
	named bool
}

func refOf(name *string, id [16]byte) topicRef {
	if name == nil {
		return topicRef{id: id}
	}
	return topicRef{name: *name, id: id, named: true}
}

// describedBytes is what an answer takes, about, that tells of all partitions of topics.
func describedBytes(topics ...meta.Topic) (n int64) {
	for _, t := range topics {
		n += topicBytes + partitionBytes*int64(t.Partitions)
	}
	return n
}

// What a topic, without its partitions, and a partition take in an answer, about.
const (
	topicBytes     = 512
	partitionBytes = 256
)

const (
	// autoCreatePatience bounds how long an answer waits for the topics that it makes. Clients ask again for what is not there by then.
	autoCreatePatience = 15 * time.Second
	// clusterIDPatience bounds the question to etcd who the cluster is, which is asked once in the life of a process.
	clusterIDPatience = 5 * time.Second
)

// clusterID is the cluster's identity; nil while it cannot be had, which clients take for a broker that has none.
func (s *Server) clusterID(ctx context.Context) *string {
	ctx, cancel := context.WithTimeout(ctx, clusterIDPatience)
	defer cancel()
	id, err := s.Cluster.ClusterID(ctx)
	if err != nil {
		return nil
	}
	return &id
}

func topicsByName(index ingest.ClusterIndex) []meta.Topic {
	topics := index.Topics()
	slices.SortFunc(topics, func(a, b meta.Topic) int { return strings.Compare(a.Name, b.Name) })
	return topics
}

// finder finds the topics that one request names. What the index does not show may have been made a moment ago through another node: so the index
// is brought up to the time of the request, once for all names of it. It may be used by several goroutines.
type finder struct {
	cluster Cluster

	mu      sync.Mutex
	index   ingest.ClusterIndex
	fresh   bool  // the index is not older than the request
	refused error // why it could not be brought up to it
}

// named finds a topic by its name.
func (f *finder) named(ctx context.Context, name string) (meta.Topic, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.index.Topic(name); ok {
		return t, nil
	}
	if err := meta.ValidateTopicName(name); err != nil {
		return meta.Topic{}, ingest.Errorf(ingest.ReasonInvalidTopic, "%w", err)
	}
	switch {
	case f.fresh:
		return meta.Topic{}, ingest.Errorf(ingest.ReasonUnknownTopic, "there is no topic %q", name)
	case f.refused != nil:
		return meta.Topic{}, f.refused
	}
	t, err := f.cluster.FindTopic(ctx, name)
	if err != nil && ingest.ReasonOf(err) != ingest.ReasonUnknownTopic {
		f.refused = err
		return t, err
	}
	f.fresh = true
	if index, refused := f.cluster.Index(); refused == nil {
		f.index = index // another one, if the node has begun anew meanwhile
	}
	return t, err
}

// withID finds a topic by its id, which nobody can know who was not told it by a node that had it.
func (f *finder) withID(id [16]byte) (meta.Topic, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.index.TopicByID(id); ok {
		return t, nil
	}
	return meta.Topic{}, kerr.UnknownTopicID
}

func (f *finder) asked(ctx context.Context, t kmsg.MetadataRequestTopic) (meta.Topic, error) {
	if t.Topic == nil {
		return f.withID(t.TopicID)
	}
	return f.named(ctx, *t.Topic)
}

func unavailableTopic(asked kmsg.MetadataRequestTopic, err error) kmsg.MetadataResponseTopic {
	m := kmsg.NewMetadataResponseTopic()
	m.Topic, m.TopicID, m.AuthorizedOperations = asked.Topic, asked.TopicID, unknownOperations
	m.ErrorCode = codeOf(err)
	if reason := ingest.ReasonOf(err); reason.Retryable() || reason == ingest.ReasonCanceled {
		m.ErrorCode = kerr.LeaderNotAvailable.Code // the one at which every client asks again
	}
	return m
}

func topicMetadata(index ingest.ClusterIndex, known []broker, t meta.Topic) kmsg.MetadataResponseTopic {
	m := kmsg.NewMetadataResponseTopic()
	m.Topic, m.TopicID, m.AuthorizedOperations = new(t.Name), topicUUID(t.ID), unknownOperations
	m.Partitions = make([]kmsg.MetadataResponseTopicPartition, t.Partitions)
	r := replicas{index: index, known: known, topic: t, ids: make([]int32, t.Partitions)}
	for n := range t.Partitions {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition = n
		p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, p.OfflineReplicas = r.of(n)
		if p.Leader < 0 {
			p.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		m.Partitions[n] = p
	}
	return m
}

// replicas tells of a topic's partitions who Kafka's clients shall think has them: the node that leads, and nobody else, because the copies are in
// the object store. ids has an element for each partition from first on, so that the lists of thousands of them are one piece of memory.
type replicas struct {
	index ingest.ClusterIndex
	known []broker
	topic meta.Topic
	first int32
	ids   []int32
}

// of tells of a partition. A leader that is away or cannot be reached is an offline replica, and there is none while nobody was given the partition.
func (r *replicas) of(partition int32) (leader, epoch int32, all, inSync, offline []int32) {
	all, inSync, offline = []int32{}, []int32{}, []int32{}
	l, ok := ingest.LeaderNow(r.index, r.topic, partition)
	if l.Node == "" {
		return -1, -1, all, inSync, offline
	}
	at := partition - r.first
	r.ids[at] = BrokerID(l.Node)
	all = r.ids[at : at+1 : at+1]
	if !ok || !slices.ContainsFunc(r.known, func(b broker) bool { return b.node == l.Node }) {
		return -1, -1, all, inSync, all
	}
	return r.ids[at], l.Epoch, all, all, offline
}

// unknownOperations says that nobody was asked what the client may do.
const unknownOperations = -2147483648

func rack(zone string) *string {
	if zone == "" {
		return nil
	}
	return &zone
}

// errTooMany ends the connection of a client that names more than anybody needs.
func errTooMany(what string, n, most int) error {
	return errors.Join(errFrame, ingest.Errorf(ingest.ReasonTooLarge, "a request names %d %s; %d are the most", n, what, most))
}
