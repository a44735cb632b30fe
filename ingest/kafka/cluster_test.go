package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// acquaint waits until every node knows of all.
func (w *world) acquaint() {
	w.t.Helper()
	for _, n := range w.nodes {
		w.until(n, func(index ingest.ClusterIndex) bool { return len(index.Nodes()) == len(w.nodes) })
	}
}

func TestTheClusterIsTold(t *testing.T) {
	w := newWorld(t, 3)
	w.acquaint()
	c := w.dial(w.nodes[1])
	for version := range int16(3) {
		answer := askWire[*kmsg.DescribeClusterResponse](c, version, kmsg.NewPtrDescribeClusterRequest())
		if answer.ErrorCode != 0 || answer.ClusterID == "" || answer.ControllerID != BrokerID("n2") || len(answer.Brokers) != 3 || answer.ClusterAuthorizedOperations != unknownOperations {
			t.Errorf("version %d: %+v", version, answer)
		}
		for _, b := range answer.Brokers {
			for _, n := range w.nodes {
				if address := fmt.Sprintf("%s:%d", b.Host, b.Port); b.NodeID == BrokerID(n.id) && address != n.address {
					t.Errorf("version %d: node %s is at %s, not at %s", version, n.id, n.address, address)
				}
			}
		}
	}
	q := kmsg.NewPtrDescribeClusterRequest()
	q.EndpointType = 2
	answer := askWire[*kmsg.DescribeClusterResponse](c, 1, q)
	expect(t, "asked as a controller", answer.ErrorCode, answer.ErrorMessage, kerr.MismatchedEndpointType, "broker")
}

func TestToolsAreToldWhenANodeKnowsNothing(t *testing.T) {
	c := serveFake(t, "n1", &fakeCluster{away: ingest.Errorf(ingest.ReasonUnavailable, "the node begins anew")})
	if answer := askWire[*kmsg.DescribeClusterResponse](c, 2, kmsg.NewPtrDescribeClusterRequest()); answer.ErrorCode == 0 {
		t.Errorf("%+v", answer)
	}
	if answer := askWire[*kmsg.DescribeLogDirsResponse](c, 5, kmsg.NewPtrDescribeLogDirsRequest()); answer.ErrorCode == 0 {
		t.Errorf("%+v", answer)
	}
	if answer := askWire[*kmsg.ElectLeadersResponse](c, 2, kmsg.NewPtrElectLeadersRequest()); answer.ErrorCode != kerr.NotController.Code {
		t.Errorf("%+v", answer)
	}
	if answer := askWire[*kmsg.DescribeConfigsResponse](c, 4, describeConfigs(kmsg.ConfigResourceTypeTopic, "orders")); answer.Resources[0].ErrorCode == 0 {
		t.Errorf("%+v", answer)
	}
	if answer := askWire[*kmsg.IncrementalAlterConfigsResponse](c, 1, changeConfigs("orders")); answer.Resources[0].ErrorCode != kerr.NotController.Code {
		t.Errorf("%+v", answer)
	}
	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "orders"}}
	if answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q); answer.Topics[0].ErrorCode == 0 {
		t.Errorf("%+v", answer)
	}
}

// A description of many partitions comes in pieces, and all pieces together are the whole, each partition once.
func TestPartitionsAreToldInPieces(t *testing.T) {
	w := newWorld(t, 2)
	w.acquaint()
	topics := map[string]meta.Topic{"a": w.create("a", 5), "b": w.create("b", 3), "c": w.create("c", 4)}
	c := w.dial(w.nodes[0])
	for limit := int32(-1); limit <= 14; limit++ {
		for _, named := range []bool{true, false} {
			q := kmsg.NewPtrDescribeTopicPartitionsRequest()
			q.ResponsePartitionLimit = limit
			if named {
				q.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "c"}, {Topic: "a"}, {Topic: "b"}, {Topic: "a"}}
			}
			next := map[string]int32{}
			for {
				answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q)
				told := 0
				for _, topic := range answer.Topics {
					of := topics[*topic.Topic]
					if topic.ErrorCode != 0 || topic.TopicID != of.ID {
						t.Fatalf("limit %d: %+v", limit, topic)
					}
					for _, p := range topic.Partitions {
						if told++; p.Partition != next[of.Name] {
							t.Fatalf("limit %d: partition %d of %s comes where %d is due", limit, p.Partition, of.Name, next[of.Name])
						}
						next[of.Name]++
						if want := BrokerID(w.leader(of, p.Partition).id); p.LeaderID != want || p.ErrorCode != 0 || p.Replicas[0] != want || p.ISR[0] != want || p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil {
							t.Fatalf("limit %d: %+v", limit, p)
						}
					}
				}
				if told > int(max(limit, 1)) {
					t.Fatalf("limit %d: %d partitions in one answer", limit, told)
				}
				if answer.NextCursor == nil {
					break
				}
				q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: answer.NextCursor.Topic, Partition: answer.NextCursor.Partition}
			}
			if next["a"] != 5 || next["b"] != 3 || next["c"] != 4 {
				t.Errorf("limit %d: told are %v", limit, next)
			}
		}
	}

	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "nobody"}, {Topic: "no name"}, {Topic: "b"}}
	answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q)
	if got := answer.Topics; got[0].ErrorCode != 0 || got[1].ErrorCode != kerr.InvalidTopicException.Code || got[2].ErrorCode != kerr.UnknownTopicOrPartition.Code || answer.NextCursor != nil {
		t.Errorf("topics that are not there: %+v", answer)
	}
	// The topic at which a client goes on was deleted meanwhile: the rest follows.
	q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "bb", Partition: 2}
	if answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q); len(answer.Topics) != 2 {
		t.Errorf("from a topic that is not there: %+v", answer)
	}
	// So was a topic of its name with more partitions.
	q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "b", Partition: 1000}
	if answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q); len(answer.Topics) != 3 || len(answer.Topics[0].Partitions) != 0 {
		t.Errorf("from a partition that is not there: %+v", answer)
	}
	q.Cursor.Partition = -1
	if answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q); answer.Topics[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("from partition -1: %+v", answer)
	}
}

// No answer is larger than there is a limit for, whatever the client says.
func TestALimitOfPartitions(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	cluster.add("wide", meta.MaxPartitions)
	c := serveFake(t, "n1", cluster)
	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.ResponsePartitionLimit = meta.MaxPartitions
	answer := askWire[*kmsg.DescribeTopicPartitionsResponse](c, 0, q)
	if n := len(answer.Topics[0].Partitions); n != maxAnsweredPartitions || answer.NextCursor == nil || answer.NextCursor.Partition != maxAnsweredPartitions {
		t.Errorf("%d partitions, then %+v", n, answer.NextCursor)
	}
	if p := answer.Topics[0].Partitions[0]; p.LeaderID != -1 || p.ErrorCode != kerr.LeaderNotAvailable.Code {
		t.Errorf("without a leader: %+v", p)
	}
}

// Every node tells the sizes of what it leads, and together they tell of each partition once.
func TestSizesOfPartitions(t *testing.T) {
	w := newWorld(t, 2)
	topic := w.create("orders", 4)
	w.create("empty", 2)
	for p := range int32(3) {
		w.append(topic, p, 10*(int(p)+1))
	}
	sizes := make(map[string]int64)
	for _, n := range w.nodes {
		for _, p := range []int32{0, 1, 2} { // committed, and known to this node
			w.until(n, func(index ingest.ClusterIndex) bool {
				return index.End(meta.Partition{Topic: topic.ID, Partition: p}) > 0
			})
		}
		c := w.dial(n)
		for version := range int16(6) {
			clear(sizes)
			for _, n := range w.nodes {
				answer := askWire[*kmsg.DescribeLogDirsResponse](w.dial(n), version, kmsg.NewPtrDescribeLogDirsRequest())
				if answer.ErrorCode != 0 || len(answer.Dirs) != 1 || answer.Dirs[0].ErrorCode != 0 || answer.Dirs[0].Dir != logDir {
					t.Fatalf("version %d: %+v", version, answer)
				}
				for _, of := range answer.Dirs[0].Topics {
					for _, p := range of.Partitions {
						name := fmt.Sprintf("%s-%d", of.Topic, p.Partition)
						if _, twice := sizes[name]; twice || p.IsFuture || p.OffsetLag != 0 {
							t.Errorf("version %d: %+v", version, p)
						}
						sizes[name] = p.Size
					}
				}
			}
			if len(sizes) != 6 {
				t.Fatalf("version %d: sizes are %v", version, sizes)
			}
		}
		q := kmsg.NewPtrDescribeLogDirsRequest()
		q.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "orders", Partitions: []int32{0, 1, 2, 3, 0, -1, 1000}}, {Topic: "nobody", Partitions: []int32{0}}, {Topic: "empty"}}
		for _, of := range askWire[*kmsg.DescribeLogDirsResponse](c, 5, q).Dirs[0].Topics {
			for _, p := range of.Partitions {
				if of.Topic != "orders" || w.leader(topic, p.Partition) != n {
					t.Errorf("node %s tells of partition %d of %s", n.id, p.Partition, of.Topic)
				}
			}
		}
	}
	for p := range int32(3) {
		want := int64(0)
		for _, b := range w.read(topic, p) {
			want += int64(len(b))
		}
		if got := sizes[fmt.Sprintf("orders-%d", p)]; got != want || want == 0 {
			t.Errorf("partition %d has %d bytes, not %d", p, want, got)
		}
	}
	if sizes["orders-3"] != 0 || sizes["empty-0"] != 0 {
		t.Errorf("what is empty has a size: %v", sizes)
	}
}

// append writes so many records to a partition, and returns when they are acknowledged.
func (w *world) append(topic meta.Topic, partition int32, records int) {
	w.t.Helper()
	b := record.NewBuilder(record.None)
	for i := range records {
		w.must(b.Append(record.Record{Timestamp: int64(i + 1), Value: fmt.Appendf(nil, "value %d", i)}))
	}
	batch, err := b.Build(-1, -1, -1)
	w.must(err)
	done := make(chan error, 1)
	w.leader(topic, partition).ProduceAsync(w.ctx, ingest.ProduceRequest{Topic: topic.Name, Partition: partition, Batch: batch},
		func(_ ingest.ProduceResult, err error) { done <- err })
	w.must(<-done)
}

func TestElections(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 2)
	c := w.dial(w.nodes[0])
	q := kmsg.NewPtrElectLeadersRequest()
	q.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "orders", Partitions: []int32{1, 0, 7}}, {Topic: "nobody", Partitions: []int32{0}}, {Topic: "orders", Partitions: []int32{1}}}
	for version := range int16(3) {
		answer := askWire[*kmsg.ElectLeadersResponse](c, version, q)
		if answer.ErrorCode != 0 || len(answer.Topics) != 2 || answer.Topics[0].Topic != "nobody" || len(answer.Topics[1].Partitions) != 3 {
			t.Fatalf("version %d: %+v", version, answer)
		}
		none, orders := answer.Topics[0].Partitions[0], answer.Topics[1].Partitions
		expect(t, "no topic", none.ErrorCode, none.ErrorMessage, kerr.UnknownTopicOrPartition, "nobody")
		expect(t, "led", orders[0].ErrorCode, orders[0].ErrorMessage, kerr.ElectionNotNeeded, "n1 leads")
		expect(t, "no partition", orders[2].ErrorCode, orders[2].ErrorMessage, kerr.UnknownTopicOrPartition, "0 to 1")
		all := askWire[*kmsg.ElectLeadersResponse](c, version, kmsg.NewPtrElectLeadersRequest())
		if all.ErrorCode != 0 || len(all.Topics) != 0 {
			t.Errorf("version %d: of all partitions: %+v", version, all)
		}
	}

	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}, leader: "n2"}
	cluster.add("orders", 2)
	c = serveFake(t, "n1", cluster)
	for election, want := range []*kerr.Error{kerr.PreferredLeaderNotAvailable, kerr.EligibleLeadersNotAvailable} {
		all := kmsg.NewPtrElectLeadersRequest()
		all.ElectionType = int8(election)
		answer := askWire[*kmsg.ElectLeadersResponse](c, 2, all)
		if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 2 {
			t.Fatalf("election %d: %+v", election, answer)
		}
		p := answer.Topics[0].Partitions[1]
		expect(t, "nobody leads", p.ErrorCode, p.ErrorMessage, want, "tidemark cluster leaders")
	}
}

// What is not here is answered all the same, in every version that is offered.
func TestWhatIsNotHere(t *testing.T) {
	c := serveFake(t, "n1", &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}})
	for version := int16(1); version <= 3; version++ {
		answer := askWire[*kmsg.DescribeACLsResponse](c, version, kmsg.NewPtrDescribeACLsRequest())
		expect(t, "access rules", answer.ErrorCode, answer.ErrorMessage, kerr.SecurityDisabled, "no access rules")
	}
	for version := range int16(2) {
		if answer := askWire[*kmsg.DescribeClientQuotasResponse](c, version, kmsg.NewPtrDescribeClientQuotasRequest()); answer.ErrorCode != 0 || answer.Entries == nil {
			t.Errorf("quotas, version %d: %+v", version, answer)
		}
	}
	for version := range int16(3) {
		if answer := askWire[*kmsg.ListTransactionsResponse](c, version, kmsg.NewPtrListTransactionsRequest()); answer.ErrorCode != 0 || len(answer.TransactionStates) != 0 {
			t.Errorf("transactions, version %d: %+v", version, answer)
		}
	}
	q := kmsg.NewPtrDescribeTransactionsRequest()
	q.TransactionalIDs = []string{"payments"}
	if answer := askWire[*kmsg.DescribeTransactionsResponse](c, 0, q); len(answer.TransactionStates) != 1 || answer.TransactionStates[0].ErrorCode != kerr.TransactionalIDNotFound.Code || answer.TransactionStates[0].TransactionalID != "payments" {
		t.Errorf("a transaction: %+v", answer)
	}
	if answer := askWire[*kmsg.ListPartitionReassignmentsResponse](c, 0, kmsg.NewPtrListPartitionReassignmentsRequest()); answer.ErrorCode != 0 || len(answer.Topics) != 0 {
		t.Errorf("moves: %+v", answer)
	}
}
