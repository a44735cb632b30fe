package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// DescribeCluster, DescribeTopicPartitions, DescribeLogDirs and ElectLeaders: what tools ask about the cluster and where its partitions are.

func clusterAPIs() []api {
	return append([]api{
		{key: int16(kmsg.DescribeCluster), min: 0, max: 2, serve: simple(serveDescribeCluster)},
		{key: int16(kmsg.DescribeTopicPartitions), min: 0, max: 0, serve: simple(serveDescribeTopicPartitions)},
		{key: int16(kmsg.DescribeLogDirs), min: 0, max: 5, serve: simple(serveDescribeLogDirs)},
		{key: int16(kmsg.ElectLeaders), min: 0, max: 2, serve: simple(serveElectLeaders)},
	}, absentAPIs()...)
}

// Kinds of endpoints (KIP-919).
const endpointOfBrokers = 1

func serveDescribeCluster(ctx context.Context, k *call, q *kmsg.DescribeClusterRequest) (*kmsg.DescribeClusterResponse, error) {
	s := k.conn.server
	out := kmsg.NewPtrDescribeClusterResponse()
	out.ClusterAuthorizedOperations = unknownOperations
	if k.version >= 1 && q.EndpointType != endpointOfBrokers {
		err := refuse(kerr.MismatchedEndpointType, "this is the endpoint of a broker")
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		return out, nil
	}
	index, err := s.Cluster.Index()
	if err != nil {
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		return out, nil
	}
	if id := s.clusterID(ctx); id != nil {
		out.ClusterID = *id
	}
	out.ControllerID = BrokerID(s.Self) // as in Metadata
	for _, b := range s.brokers(index, k.conn.dialled()) {
		m := kmsg.NewDescribeClusterResponseBroker()
		m.NodeID, m.Host, m.Port, m.Rack = b.id, b.host, b.port, rack(b.zone)
		out.Brokers = append(out.Brokers, m)
	}
	return out, nil
}

// maxAnsweredPartitions is how many partitions one answer to DescribeTopicPartitions has; a client goes on where it ended. Kafka's own limit.
const maxAnsweredPartitions = 2000

// serveDescribeTopicPartitions describes partitions of topics in the order of their names, as many as an answer may have, beginning at the cursor of
// the answer before (KIP-966).
func serveDescribeTopicPartitions(ctx context.Context, k *call, q *kmsg.DescribeTopicPartitionsRequest) (*kmsg.DescribeTopicPartitionsResponse, error) {
	if len(q.Topics) > maxNamedTopics {
		return nil, errTooMany("topics", len(q.Topics), maxNamedTopics)
	}
	s := k.conn.server
	out := kmsg.NewPtrDescribeTopicPartitionsResponse()
	left := max(min(q.ResponsePartitionLimit, maxAnsweredPartitions), 1)
	index, err := s.Cluster.Index()
	if refused := k.reserve(topicPartitionsBytes(q, index, err == nil, left)); refused != nil {
		return nil, refused
	}
	if err == nil && q.Cursor != nil && q.Cursor.Partition < 0 {
		err = refuse(kerr.InvalidRequest, "the cursor is at partition %d", q.Cursor.Partition)
	}
	if err != nil {
		for _, t := range q.Topics {
			out.Topics = append(out.Topics, undescribed(t.Topic, err))
		}
		return out, nil
	}
	names := make([]string, 0, len(q.Topics))
	for _, t := range q.Topics {
		names = append(names, t.Topic)
	}
	if len(names) == 0 {
		for _, t := range index.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var begin int32
	if q.Cursor != nil {
		at, found := slices.BinarySearch(names, q.Cursor.Topic)
		names = names[at:]
		if found {
			begin = q.Cursor.Partition
		}
	}
	find := finder{cluster: s.Cluster, index: index}
	known := s.brokers(index, k.conn.dialled())
	for _, name := range names {
		topic, err := find.named(ctx, name)
		if err != nil {
			out.Topics = append(out.Topics, undescribed(name, err))
			continue
		}
		if left == 0 {
			out.NextCursor = cursorAt(name, begin)
			return out, nil
		}
		from := min(begin, topic.Partitions)
		to := min(from+left, topic.Partitions)
		out.Topics = append(out.Topics, described(find.index, known, topic, from, to))
		left -= to - from
		if to < topic.Partitions {
			out.NextCursor = cursorAt(name, to)
			return out, nil
		}
		begin = 0
	}
	return out, nil
}

// topicPartitionsBytes is what an answer takes, about, that tells of so many partitions at most.
func topicPartitionsBytes(q *kmsg.DescribeTopicPartitionsRequest, index ingest.ClusterIndex, known bool, most int32) int64 {
	if !known {
		return int64(len(q.Topics)) * topicBytes
	}
	bytes, left := int64(0), most
	add := func(partitions int32) {
		told := min(partitions, left)
		left -= told
		bytes += topicBytes + int64(told)*partitionBytes
	}
	for _, t := range q.Topics {
		topic, _ := index.Topic(t.Topic)
		add(topic.Partitions)
	}
	if len(q.Topics) > 0 {
		return bytes
	}
	for _, t := range index.Topics() {
		if add(t.Partitions); left == 0 {
			break
		}
	}
	return bytes
}

func cursorAt(topic string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, partition
	return &c
}

func undescribed(name string, err error) kmsg.DescribeTopicPartitionsResponseTopic {
	m := kmsg.NewDescribeTopicPartitionsResponseTopic()
	m.Topic, m.ErrorCode = new(name), codeOf(err)
	return m
}

// described tells of the partitions from one up to another.
func described(index ingest.ClusterIndex, known []broker, t meta.Topic, from, to int32) kmsg.DescribeTopicPartitionsResponseTopic {
	m := kmsg.NewDescribeTopicPartitionsResponseTopic()
	m.Topic, m.TopicID = new(t.Name), topicUUID(t.ID)
	r := replicas{index: index, known: known, topic: t, first: from, ids: make([]int32, to-from)}
	for n := from; n < to; n++ {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition = n
		p.LeaderID, p.LeaderEpoch, p.Replicas, p.ISR, p.OfflineReplicas = r.of(n)
		p.EligibleLeaderReplicas, p.LastKnownELR = []int32{}, []int32{} // Java's client takes no null for a list
		if p.LeaderID < 0 {
			p.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		m.Partitions = append(m.Partitions, p)
	}
	return m
}

// logDir stands for the object store where tools want a directory.
const logDir = "tidemark"

// serveDescribeLogDirs tells how large the partitions are that this node leads. Tools ask every node and add up.
func serveDescribeLogDirs(_ context.Context, k *call, q *kmsg.DescribeLogDirsRequest) (*kmsg.DescribeLogDirsResponse, error) {
	s := k.conn.server
	out := kmsg.NewPtrDescribeLogDirsResponse()
	index, err := s.Cluster.Index()
	if err != nil {
		out.ErrorCode = codeOf(err)
		return out, nil
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = logDir
	if q.Topics == nil {
		topics := topicsByName(index)
		if err := k.reserve(describedBytes(topics...)); err != nil {
			return nil, err
		}
		for _, t := range topics {
			s.addSizes(&dir, index, t, nil)
		}
	} else {
		lists := make([]partitionList, 0, len(q.Topics))
		for _, t := range q.Topics {
			lists = append(lists, partitionList{topic: t.Topic, partitions: t.Partitions})
		}
		if lists, err = k.gather(lists, partitionBytes); err != nil {
			return nil, err
		}
		for _, l := range lists {
			// Kafka's brokers leave out what they do not have, and so does this.
			if t, ok := index.Topic(l.topic); ok && len(l.partitions) > 0 {
				s.addSizes(&dir, index, t, l.partitions)
			}
		}
	}
	out.Dirs = append(out.Dirs, dir)
	return out, nil
}

// addSizes adds the partitions of a topic that this node leads, all or those named.
func (s *Server) addSizes(dir *kmsg.DescribeLogDirsResponseDir, index ingest.ClusterIndex, t meta.Topic, named []int32) {
	m := kmsg.NewDescribeLogDirsResponseDirTopic()
	m.Topic = t.Name
	add := func(n int32) {
		l, ok := ingest.LeaderNow(index, t, n)
		if !ok || l.Node != s.Self {
			return
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = n, storedBytes(index, meta.Partition{Topic: t.ID, Partition: n})
		m.Partitions = append(m.Partitions, p)
	}
	if named == nil {
		for n := range t.Partitions {
			add(n)
		}
	}
	for _, n := range named {
		if n >= 0 && n < t.Partitions {
			add(n)
		}
	}
	if len(m.Partitions) > 0 {
		dir.Topics = append(dir.Topics, m)
	}
}

// storedBytes is what the object store has of a partition, as far as it is indexed; what its leader has not uploaded yet is not counted.
func storedBytes(index ingest.ClusterIndex, p meta.Partition) (size int64) {
	blocks, ok := index.(interface {
		Blocks(p meta.Partition) []meta.Block
	})
	if !ok {
		return 0 // an index without blocks is one that was given what leads where and nothing else
	}
	for _, b := range blocks.Blocks(p) {
		size += int64(b.Length)
	}
	return size
}

// partitionList is some partitions of a topic, as requests name them.
type partitionList struct {
	topic      string
	partitions []int32
}

// gather puts together what a request names of the same topic, and each partition once, in the order of names and numbers. It reserves so many bytes
// for the answer about each of them.
func (k *call) gather(lists []partitionList, bytes int64) ([]partitionList, error) {
	lists, err := gather(lists)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, l := range lists {
		total += topicBytes + bytes*int64(len(l.partitions))
	}
	return lists, k.reserve(total)
}

func gather(lists []partitionList) ([]partitionList, error) {
	if len(lists) > maxNamedTopics {
		return nil, errTooMany("topics", len(lists), maxNamedTopics)
	}
	slices.SortStableFunc(lists, func(a, b partitionList) int { return strings.Compare(a.topic, b.topic) })
	var out []partitionList
	named := 0
	for _, l := range lists {
		if named += len(l.partitions); named > maxNamedPartitions {
			return nil, errTooMany("partitions", named, maxNamedPartitions)
		}
		if len(out) == 0 || out[len(out)-1].topic != l.topic {
			out = append(out, partitionList{topic: l.topic})
		}
		last := &out[len(out)-1]
		last.partitions = append(last.partitions, l.partitions...)
	}
	for i := range out {
		slices.Sort(out[i].partitions)
		out[i].partitions = slices.Compact(out[i].partitions)
	}
	return out, nil
}

// serveElectLeaders makes nobody lead: the controller of the cluster gives each partition that can be led to a node by itself, and a partition has no
// replicas among which one were preferred. So it tells that nothing is to be done, or why nobody leads.
func serveElectLeaders(ctx context.Context, k *call, q *kmsg.ElectLeadersRequest) (*kmsg.ElectLeadersResponse, error) {
	out := kmsg.NewPtrElectLeadersResponse()
	s := k.conn.server
	index, err := s.Cluster.Index()
	if err != nil {
		out.ErrorCode, _ = adminError(err)
		return out, nil
	}
	find := finder{cluster: s.Cluster, index: index}
	if q.Topics == nil {
		// Of all partitions those are told for which something was to be done.
		topics := topicsByName(index)
		if err := k.reserve(describedBytes(topics...) * (electedBytes / partitionBytes)); err != nil {
			return nil, err
		}
		for _, t := range topics {
			m := kmsg.NewElectLeadersResponseTopic()
			m.Topic = t.Name
			for n := range t.Partitions {
				if p := elected(index, t, n, q.ElectionType); p.ErrorCode != kerr.ElectionNotNeeded.Code {
					m.Partitions = append(m.Partitions, p)
				}
			}
			if len(m.Partitions) > 0 {
				out.Topics = append(out.Topics, m)
			}
		}
		return out, nil
	}
	lists := make([]partitionList, 0, len(q.Topics))
	for _, t := range q.Topics {
		lists = append(lists, partitionList{topic: t.Topic, partitions: t.Partitions})
	}
	if lists, err = k.gather(lists, electedBytes); err != nil {
		return nil, err
	}
	for _, l := range lists {
		m := kmsg.NewElectLeadersResponseTopic()
		m.Topic = l.topic
		topic, err := find.named(ctx, l.topic)
		for _, n := range l.partitions {
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition = n
			switch {
			case err != nil:
				p.ErrorCode, p.ErrorMessage = codeOf(err), messageOf(err)
			case n < 0 || n >= topic.Partitions:
				err := refuse(kerr.UnknownTopicOrPartition, "topic %s has the partitions 0 to %d", topic.Name, topic.Partitions-1)
				p.ErrorCode, p.ErrorMessage = codeOf(err), messageOf(err)
			default:
				p = elected(find.index, topic, n, q.ElectionType)
			}
			m.Partitions = append(m.Partitions, p)
		}
		out.Topics = append(out.Topics, m)
	}
	return out, nil
}

// Types of elections (KIP-460).
const preferredElection = 0

// electedBytes is what one partition takes in the answer, about, with a word why.
const electedBytes = 2 * partitionBytes

// elected is what an election of a partition's leader comes to.
func elected(index ingest.ClusterIndex, t meta.Topic, n int32, election int8) kmsg.ElectLeadersResponseTopicPartition {
	p := kmsg.NewElectLeadersResponseTopicPartition()
	p.Partition = n
	l, ok := ingest.LeaderNow(index, t, n)
	var err error
	switch {
	case ok:
		err = refuse(kerr.ElectionNotNeeded, "node %s leads it", l.Node)
	case election == preferredElection:
		err = refuse(kerr.PreferredLeaderNotAvailable, "nobody leads it now; `tidemark cluster leaders` tells what it waits for, and a node is given it as soon as one may have it")
	default:
		err = refuse(kerr.EligibleLeadersNotAvailable, "nobody who lacks records is made to lead; `tidemark cluster leaders` tells what it waits for")
	}
	p.ErrorCode, p.ErrorMessage = codeOf(err), messageOf(err)
	return p
}
