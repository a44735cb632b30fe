package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// aboutTopics asks for metadata of topics by name, and lets the node make them.
func aboutTopics(names ...string) *kmsg.MetadataRequest {
	q := kmsg.NewPtrMetadataRequest()
	q.Topics, q.AllowAutoTopicCreation = []kmsg.MetadataRequestTopic{}, true
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		q.Topics = append(q.Topics, t)
	}
	return q
}

func autoCreate(_ *ingest.Config, served *Config) {
	served.AutoCreateTopics, served.Partitions = true, 3
}

func TestAClientAsksAboutTopics(t *testing.T) {
	w := newWorld(t, 2, autoCreate)
	w.acquaint()
	orders := w.create("orders", 4)
	w.create("events", 1)
	c := w.dial(w.nodes[0])

	t.Run("every version is answered, with leaders that are brokers", func(t *testing.T) {
		for version := range int16(14) {
			q := aboutTopics("orders")
			q.AllowAutoTopicCreation = false
			answer := askWire[*kmsg.MetadataResponse](c, version, q)
			if len(answer.Topics) != 1 || answer.Topics[0].ErrorCode != 0 || len(answer.Topics[0].Partitions) != 4 || len(answer.Brokers) != 2 {
				t.Fatalf("version %d: %+v", version, answer)
			}
			if version >= 2 && (answer.ClusterID == nil || *answer.ClusterID == "") {
				t.Errorf("version %d: no cluster id", version)
			}
			if version >= 10 && answer.Topics[0].TopicID != orders.ID {
				t.Errorf("version %d: the topic's id is %x", version, answer.Topics[0].TopicID)
			}
			for _, p := range answer.Topics[0].Partitions {
				if want := BrokerID(w.leader(orders, p.Partition).id); p.Leader != want || len(p.Replicas) != 1 || len(p.ISR) != 1 || p.Replicas[0] != want {
					t.Errorf("version %d: partition %d has leader %d, replicas %v, isr %v; leader %d is due", version, p.Partition, p.Leader, p.Replicas, p.ISR, want)
				}
			}
		}
	})
	t.Run("all topics, by name, and none", func(t *testing.T) {
		all := kmsg.NewPtrMetadataRequest()
		all.Topics = nil
		answer := askWire[*kmsg.MetadataResponse](c, 13, all)
		if len(answer.Topics) != 2 || *answer.Topics[0].Topic != "events" || *answer.Topics[1].Topic != "orders" {
			t.Errorf("all topics are %+v", answer.Topics)
		}
		if answer := askWire[*kmsg.MetadataResponse](c, 0, aboutTopics()); len(answer.Topics) != 2 {
			t.Errorf("in version 0 no names are all topics, not %d", len(answer.Topics))
		}
		if answer := askWire[*kmsg.MetadataResponse](c, 13, aboutTopics()); len(answer.Topics) != 0 || len(answer.Brokers) != 2 {
			t.Errorf("no topics: %+v", answer)
		}
	})
	t.Run("by id", func(t *testing.T) {
		q := kmsg.NewPtrMetadataRequest()
		q.Topics = []kmsg.MetadataRequestTopic{{TopicID: orders.ID}, {TopicID: [16]byte{1, 2, 3}}}
		answer := askWire[*kmsg.MetadataResponse](c, 12, q)
		if got := answer.Topics[0]; got.ErrorCode != 0 || got.Topic == nil || *got.Topic != "orders" {
			t.Errorf("the topic by its id: %+v", got)
		}
		if got := answer.Topics[1]; got.ErrorCode != kerr.UnknownTopicID.Code || got.TopicID != [16]byte{1, 2, 3} {
			t.Errorf("an unknown id: %+v", got)
		}
	})
	t.Run("a topic that is not there is made when the client lets it", func(t *testing.T) {
		q := aboutTopics("wished", "not a name", "orders")
		q.AllowAutoTopicCreation = false
		answer := askWire[*kmsg.MetadataResponse](c, 12, q)
		if got := answer.Topics[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("a topic that may not be made: code %d", got)
		}
		if got := answer.Topics[1].ErrorCode; got != kerr.InvalidTopicException.Code {
			t.Errorf("a name that is none: code %d", got)
		}
		if got := answer.Topics[2].ErrorCode; got != 0 {
			t.Errorf("a topic beside them: code %d", got)
		}
		q.AllowAutoTopicCreation = true
		answer = askWire[*kmsg.MetadataResponse](c, 12, q)
		if got := answer.Topics[0]; got.ErrorCode != 0 || len(got.Partitions) != 3 || got.Partitions[2].Leader < 0 {
			t.Errorf("the topic that was made: %+v", got)
		}
		if got := answer.Topics[1].ErrorCode; got != kerr.InvalidTopicException.Code {
			t.Errorf("a name that is none: code %d", got)
		}
		// Versions below 4 cannot say that they do not want it.
		if answer := askWire[*kmsg.MetadataResponse](c, 3, aboutTopics("of-old")); answer.Topics[0].ErrorCode != 0 {
			t.Errorf("for an old client: code %d", answer.Topics[0].ErrorCode)
		}
	})
	t.Run("many who want the same one at once get one topic", func(t *testing.T) {
		clients, asked := make([]*wire, 16), aboutTopics("rush")
		for i := range clients {
			clients[i] = w.dial(w.nodes[i%2])
			clients[i].send(12, asked)
		}
		var id [16]byte
		for i, c := range clients {
			answer, _ := receive[*kmsg.MetadataResponse](c, asked)
			if i == 0 {
				id = answer.Topics[0].TopicID
			}
			if got := answer.Topics[0]; got.ErrorCode != 0 || got.TopicID != id {
				t.Errorf("client %d has the topic %x with code %d, and not %x", i, got.TopicID, got.ErrorCode, id)
			}
		}
	})
}

func TestNoTopicIsMadeWhereTheNodeDoesNotLikeIt(t *testing.T) {
	w := newWorld(t, 1)
	answer := askWire[*kmsg.MetadataResponse](w.dial(w.nodes[0]), 12, aboutTopics("wished"))
	if got := answer.Topics[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("code %d", got)
	}
}

// A topic that another node made a moment ago is found, whatever this node's index knew when the request came.
func TestATopicIsThereForEverybodyOnceItIsMade(t *testing.T) {
	w := newWorld(t, 2)
	c := w.dial(w.nodes[1])
	for i := range 20 {
		name := "made-" + strconv.Itoa(i)
		_, _, err := w.nodes[0].router.CreateTopic(w.ctx, name, 1, nil, false)
		w.must(err)
		if answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics(name)); answer.Topics[0].ErrorCode != 0 {
			t.Fatalf("topic %s: code %d", name, answer.Topics[0].ErrorCode)
		}
	}
}

// Ten thousand names that are not there cost one look at etcd, and none when that is away.
func TestManyUnknownNamesCostOneLook(t *testing.T) {
	names := make([]string, maxNamedTopics)
	for i := range names {
		names[i] = "none-" + strconv.Itoa(i)
	}
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	c := serveFake(t, "n1", cluster)
	answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics(names...))
	for _, topic := range answer.Topics {
		if topic.ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Fatalf("topic %s: code %d", *topic.Topic, topic.ErrorCode)
		}
	}
	if looks := cluster.looked(); len(answer.Topics) != len(names) || looks != 1 {
		t.Errorf("%d answers, %d looks", len(answer.Topics), looks)
	}
	if answer.ClusterID != nil {
		t.Errorf("the cluster's id is %q, though nobody could be asked", *answer.ClusterID)
	}

	cluster.now(func(f *fakeCluster) {
		f.find = func(string) (meta.Topic, error) {
			return meta.Topic{}, ingest.Errorf(ingest.ReasonTimeout, "etcd is slow")
		}
	})
	answer = askWire[*kmsg.MetadataResponse](c, 12, aboutTopics(names...))
	if got, looks := answer.Topics[len(names)-1].ErrorCode, cluster.looked(); got != kerr.LeaderNotAvailable.Code || looks != 1 {
		t.Errorf("while etcd is away: code %d after %d looks", got, looks)
	}

	c.send(12, aboutTopics(slices.Concat(names, []string{"one-more"})...))
	if !c.hungUp() {
		t.Error("who names more than anybody needs is answered")
	}
}

// While a node knows nothing its clients are told to ask again.
func TestANodeThatKnowsNothingSaysSo(t *testing.T) {
	c := serveFake(t, "n1", &fakeCluster{away: ingest.Errorf(ingest.ReasonUnavailable, "the node begins anew")})
	answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("orders"))
	if len(answer.Brokers) != 0 || answer.Topics[0].ErrorCode != kerr.LeaderNotAvailable.Code {
		t.Errorf("%+v", answer)
	}
}

func TestPartitionsWhoseLeadersAreAway(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}, {ID: "n3", HTTP: "http://10.0.0.3:8640"}}}
	cluster.add("orders", 1)
	c := serveFake(t, "n1", cluster)
	ask := func() kmsg.MetadataResponseTopicPartition {
		return askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("orders")).Topics[0].Partitions[0]
	}
	if p := ask(); p.ErrorCode != kerr.LeaderNotAvailable.Code || p.Leader != -1 || len(p.Replicas) != 0 {
		t.Errorf("nobody was given the partition: %+v", p)
	}
	for id, why := range map[meta.NodeID]string{"n2": "is not alive", "n3": "has no Kafka listener"} {
		cluster.now(func(f *fakeCluster) { f.leader = id })
		p := ask()
		if p.ErrorCode != kerr.LeaderNotAvailable.Code || p.Leader != -1 || p.LeaderEpoch != -1 {
			t.Errorf("its node %s: %+v", why, p)
		}
		if len(p.Replicas) != 1 || p.Replicas[0] != BrokerID(id) || len(p.ISR) != 0 || len(p.OfflineReplicas) != 1 {
			t.Errorf("its node %s: replicas %v, isr %v, offline %v", why, p.Replicas, p.ISR, p.OfflineReplicas)
		}
	}
}

// A topic of as many partitions as there may be is told in a moment, and in no more bytes than the protocol takes for it.
func TestTenThousandPartitions(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}, {ID: "n2", Kafka: "10.0.0.2:9092"}}, leader: "n2"}
	cluster.add("wide", meta.MaxPartitions)
	c := serveFake(t, "n1", cluster)
	answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("wide"))
	if got := len(answer.Topics[0].Partitions); got != meta.MaxPartitions {
		t.Fatalf("%d partitions", got)
	}
	for _, p := range answer.Topics[0].Partitions {
		if p.Leader != BrokerID("n2") || p.LeaderEpoch != 7 || p.Replicas[0] != p.Leader || p.ISR[0] != p.Leader {
			t.Fatalf("%+v", p)
		}
	}
	// Whoever asks for it many times over is told once.
	again := make([]string, maxNamedTopics)
	for i := range again {
		again[i] = "wide"
	}
	if answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics(again...)); len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != meta.MaxPartitions {
		t.Errorf("%d answers", len(answer.Topics))
	}
	// Code, number, leader, epoch, replicas, isr, offline, tags.
	if size, most := len(answer.AppendTo(nil)), meta.MaxPartitions*(2+4+4+4+5+5+1+1)+200; size > most {
		t.Errorf("%d bytes, more than %d", size, most)
	}
}

// Large answers that are being made have a room, so that however many clients ask for them at once the node holds no more than that. Small ones need none.
func TestLargeAnswersWaitForRoom(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	cluster.add("wide", meta.MaxPartitions)
	cluster.add("narrow", 1)
	s, dial := fakeServer(t, "n1", cluster)
	full := s.making.Try(makingBytes, nil)
	if full == nil {
		t.Fatal("there is no room in an idle server")
	}
	dirs, elect, settings := kmsg.NewPtrDescribeLogDirsRequest(), kmsg.NewPtrElectLeadersRequest(), describeConfigs(kmsg.ConfigResourceTypeTopic, "wide")
	for i := range 100 {
		settings.Resources = append(settings.Resources, describeConfigs(kmsg.ConfigResourceTypeTopic, strconv.Itoa(i)).Resources...)
	}
	all := kmsg.NewPtrMetadataRequest()
	large := []kmsg.Request{aboutTopics("wide"), all, dirs, elect, settings}
	var waiting []*wire
	for _, q := range large {
		c := dial()
		c.send(apis[q.Key()].max, q)
		waiting = append(waiting, c)
	}
	if answer := askWire[*kmsg.MetadataResponse](dial(), 12, aboutTopics("narrow")); len(answer.Topics[0].Partitions) != 1 {
		t.Errorf("%+v", answer)
	}
	for i, c := range waiting {
		if err := c.SetReadDeadline(clock.System().Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.in.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("request %d of kind %d is answered without room: %v", i, large[i].Key(), err)
		}
		if err := c.SetReadDeadline(clock.System().Now().Add(storyPatience)); err != nil {
			t.Fatal(err)
		}
	}
	full.Give()
	for i, c := range waiting {
		if answer, _ := receive[kmsg.Response](c, large[i]); answer.Key() != large[i].Key() {
			t.Errorf("request %d has the answer %+v", i, answer)
		}
	}
	// And all of it is given back.
	again := s.making.Try(makingBytes, nil)
	if again == nil {
		t.Fatal("answers that were sent still hold room")
	}
	again.Give()
}

func BenchmarkTenThousandPartitions(b *testing.B) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}, {ID: "n2", Kafka: "10.0.0.2:9092"}}, leader: "n2"}
	topic := cluster.add("wide", meta.MaxPartitions)
	s := &Server{Config: Config{Self: "n1"}}
	known := s.brokers(cluster, "127.0.0.1:9092")
	b.ReportAllocs()
	for b.Loop() {
		answer := kmsg.NewPtrMetadataResponse()
		answer.SetVersion(12)
		answer.Topics = append(answer.Topics, topicMetadata(cluster, known, topic))
		b.SetBytes(int64(len(answer.AppendTo(nil))))
	}
}

// Of two nodes whose ids give the same number, clients know the one that sorts first; what the other leads has no leader for them, rather than the wrong one.
func TestTwoNodesWithOneNumber(t *testing.T) {
	a, b := sameNumber(t)
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: b, Kafka: "10.0.0.2:9092"}, {ID: a, Kafka: "10.0.0.1:9092"}}}
	cluster.add("orders", 1)
	c := serveFake(t, a, cluster, func(served *Config) { served.Advertise = "10.0.0.1:9092" })
	for leader, led := range map[meta.NodeID]bool{a: true, b: false} {
		cluster.now(func(f *fakeCluster) { f.leader = leader })
		answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("orders"))
		if len(answer.Brokers) != 1 || answer.Brokers[0].Host != "10.0.0.1" {
			t.Fatalf("brokers are %+v", answer.Brokers)
		}
		if p := answer.Topics[0].Partitions[0]; (p.Leader == BrokerID(a)) != led || led != (p.ErrorCode == 0) {
			t.Errorf("with %s as leader: %+v", leader, p)
		}
	}
}

// sameNumber finds two ids of nodes that have the same number, in order.
func sameNumber(t *testing.T) (meta.NodeID, meta.NodeID) {
	t.Helper()
	seen := make(map[int32]meta.NodeID)
	for i := range 1 << 20 {
		id := meta.NodeID(fmt.Sprintf("node-%07d", i))
		if other, ok := seen[BrokerID(id)]; ok {
			return other, id
		}
		seen[BrokerID(id)] = id
	}
	t.Fatal("no two of a million ids have the same number: they are no hashes of 31 bits")
	return "", ""
}

// A node is where it says it is; one that says nothing is where its client dialled it; and one that has no listener is not told at all.
func TestWhereNodesAre(t *testing.T) {
	nodes := []meta.NodeInfo{{ID: "n1", Kafka: "stale:1", Zone: "a"}, {ID: "n2", Kafka: "10.0.0.2:9093"}, {ID: "n3"}, {ID: "n4", Kafka: "no port"}, {ID: "n5", Kafka: "[fd00::5]:9092"}}
	for advertised, want := range map[string]string{"kafka.example.com:19092": "kafka.example.com:19092", "": ""} {
		c := serveFake(t, "n1", &fakeCluster{nodes: nodes}, func(served *Config) { served.Advertise = advertised })
		if want == "" {
			want = c.RemoteAddr().String()
		}
		got := make(map[int32]string)
		answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics())
		for _, b := range answer.Brokers {
			got[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		}
		if len(got) != 3 || got[BrokerID("n1")] != want || got[BrokerID("n2")] != "10.0.0.2:9093" || got[BrokerID("n5")] != "[fd00::5]:9092" {
			t.Errorf("advertised %q: %v", advertised, got)
		}
		if answer.ControllerID != BrokerID("n1") {
			t.Errorf("the controller is %d", answer.ControllerID)
		}
		for _, b := range answer.Brokers {
			if named := b.Rack != nil && *b.Rack == "a"; named != (b.NodeID == BrokerID("n1")) {
				t.Errorf("rack of %d: %v", b.NodeID, b.Rack)
			}
		}
	}
}

// A topic that cannot be made just now is one without a leader: every client asks again.
func TestAutoCreationThatFails(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	c := serveFake(t, "n1", cluster, func(served *Config) { served.AutoCreateTopics = true })
	for _, reason := range []ingest.Reason{ingest.ReasonUnavailable, ingest.ReasonTimeout, ingest.ReasonNotLeader} {
		cluster.now(func(f *fakeCluster) {
			f.create = func(context.Context, string, int32, bool) (meta.Topic, bool, error) {
				return meta.Topic{}, false, ingest.Errorf(reason, "not now")
			}
		})
		if answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("wished")); answer.Topics[0].ErrorCode != kerr.LeaderNotAvailable.Code {
			t.Errorf("%s: code %d", reason, answer.Topics[0].ErrorCode)
		}
	}
	// Somebody else was quicker: then that topic is the one.
	cluster.now(func(f *fakeCluster) {
		f.create = func(_ context.Context, name string, _ int32, ifNotExists bool) (meta.Topic, bool, error) {
			if !ifNotExists {
				return meta.Topic{}, false, ingest.Errorf(ingest.ReasonTopicExists, "topic %s exists", name)
			}
			return meta.Topic{Name: name, ID: meta.TopicID{9}, Partitions: 2}, false, nil
		}
	})
	answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("wished"))
	if got := answer.Topics[0]; got.ErrorCode != 0 || got.TopicID != [16]byte{9} || len(got.Partitions) != 2 {
		t.Errorf("made by somebody else: %+v", got)
	}
}
