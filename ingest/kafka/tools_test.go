package kafka

import (
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What an operator does with a tool, through a client that finds by itself which node to ask: the controller for changes, the node that is meant for
// its settings, all nodes for sizes.
func TestAnOperatorsDay(t *testing.T) {
	w := newWorld(t, 3)
	w.acquaint()
	client := w.newClient()
	q := createTopics(toCreate("orders"))
	q.Topics[0].NumPartitions, q.Topics[0].ReplicationFactor = 6, 3
	created, err := q.RequestWith(w.ctx, client)
	w.must(err)
	w.must(kerr.ErrorForCode(created.Topics[0].ErrorCode))
	if again, err := createTopics(toCreate("orders")).RequestWith(w.ctx, client); err != nil || again.Topics[0].ErrorCode != kerr.TopicAlreadyExists.Code {
		t.Errorf("made again: %+v, %v", again, err)
	}

	changed, err := changeConfigs("orders", "max.message.bytes=65536").RequestWith(w.ctx, client)
	w.must(err)
	w.must(kerr.ErrorForCode(changed.Resources[0].ErrorCode))
	told, err := describeConfigs(kmsg.ConfigResourceTypeTopic, "orders").RequestWith(w.ctx, client)
	w.must(err)
	if got := configsOf(told.Resources[0])["max.message.bytes"]; got.Value == nil || *got.Value != "65536" {
		t.Errorf("the setting is %+v", got)
	}
	for _, n := range w.nodes {
		id := strconv.Itoa(int(BrokerID(n.id)))
		told, err := describeConfigs(kmsg.ConfigResourceTypeBroker, id).RequestWith(w.ctx, client)
		w.must(err)
		if got := configsOf(told.Resources[0])["advertised.listeners"]; got.Value == nil || *got.Value != "PLAINTEXT://"+n.address {
			t.Errorf("node %s: %+v", n.id, got)
		}
	}

	partitions := 0
	for _, shard := range client.RequestSharded(w.ctx, kmsg.NewPtrDescribeLogDirsRequest()) {
		w.must(shard.Err)
		for _, dir := range shard.Resp.(*kmsg.DescribeLogDirsResponse).Dirs {
			for _, of := range dir.Topics {
				partitions += len(of.Partitions)
			}
		}
	}
	if partitions != 6 {
		t.Errorf("all nodes together tell of %d partitions, not 6", partitions)
	}

	gone, err := deleteTopics("orders").RequestWith(w.ctx, client)
	w.must(err)
	w.must(kerr.ErrorForCode(gone.Topics[0].ErrorCode))
}
