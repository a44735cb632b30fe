package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
)

// A cluster of three is three brokers, and each topic's partitions have leaders among them.
func TestAClusterIsBrokersToItsClients(t *testing.T) {
	w := newWorld(t, 3)
	topic := w.create("orders", 6)
	client := w.newClient()
	w.must(client.Ping(w.ctx))
	q := kmsg.NewPtrMetadataRequest()
	named := kmsg.NewMetadataRequestTopic()
	named.Topic = &topic.Name
	q.Topics = append(q.Topics, named)
	answer, err := q.RequestWith(w.ctx, client)
	w.must(err)
	if len(answer.Brokers) != 3 {
		t.Fatalf("%d brokers, not 3", len(answer.Brokers))
	}
	led := make(map[int32]int)
	for _, p := range answer.Topics[0].Partitions {
		if want := BrokerID(w.leader(topic, p.Partition).id); p.Leader != want {
			t.Errorf("partition %d is led by broker %d, not %d", p.Partition, p.Leader, want)
		}
		led[p.Leader]++
	}
	if len(led) != 3 {
		t.Errorf("leaders are %v", led)
	}
}

// A client that dials the node by whatever address is told that address, when the node advertises none.
func TestANodeIsWhereItWasDialled(t *testing.T) {
	w := newWorld(t, 1, func(node *ingest.Config, served *Config) { node.Info.Kafka, served.Advertise = "", "" })
	answer := askWire[*kmsg.MetadataResponse](w.dial(w.nodes[0]), 12, kmsg.NewPtrMetadataRequest())
	if len(answer.Brokers) != 1 || answer.Brokers[0].Host != "127.0.0.1" {
		t.Fatalf("brokers are %+v", answer.Brokers)
	}
	c := w.newClient()
	w.must(c.Ping(w.ctx))
}
