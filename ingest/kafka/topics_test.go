package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// toCreate is a topic with the defaults of partitions and replicas; settings are pairs of names and values.
func toCreate(name string, settings ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, -1, -1
	for i := 0; i < len(settings); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = settings[i], &settings[i+1]
		t.Configs = append(t.Configs, c)
	}
	return t
}

func createTopics(topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	q := kmsg.NewPtrCreateTopicsRequest()
	q.Topics = topics
	return q
}

func deleteTopics(names ...string) *kmsg.DeleteTopicsRequest {
	q := kmsg.NewPtrDeleteTopicsRequest()
	q.TimeoutMillis = 15_000
	q.TopicNames = names
	for _, name := range names {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = new(name)
		q.Topics = append(q.Topics, t)
	}
	return q
}

func createPartitions(topic string, count int32, assigned ...int32) *kmsg.CreatePartitionsRequest {
	q := kmsg.NewPtrCreatePartitionsRequest()
	q.TimeoutMillis = 15_000
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, count
	for _, replica := range assigned {
		t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: []int32{replica}})
	}
	q.Topics = append(q.Topics, t)
	return q
}

// expect checks a code, and that its message tells something.
func expect(t *testing.T, what string, code int16, message *string, want *kerr.Error, says string) {
	t.Helper()
	if wanted := wantCode(want); code != wanted {
		t.Errorf("%s: code %d (%v), not %d", what, code, kerr.ErrorForCode(code), wanted)
	}
	told := ""
	if message != nil {
		told = *message
	}
	if !strings.Contains(told, says) || want == nil && told != "" {
		t.Errorf("%s: the message is %q; it should tell of %q", what, told, says)
	}
}

func wantCode(e *kerr.Error) int16 {
	if e == nil {
		return 0
	}
	return e.Code
}

func TestTheLifeOfATopic(t *testing.T) {
	w := newWorld(t, 2)
	c := w.dial(w.nodes[1])

	// Made with settings of both kinds, by its defaults else.
	q := createTopics(toCreate("orders", "max.message.bytes", "65536", "tidemark.durability", "disk", "tidemark.column.amount", "double", "cleanup.policy", "delete", "retention.ms", "-1"))
	q.Topics[0].ReplicationFactor = 3 // by habit
	got := askWire[*kmsg.CreateTopicsResponse](c, 7, q).Topics[0]
	expect(t, "create", got.ErrorCode, got.ErrorMessage, nil, "")
	topic, err := w.nodes[0].router.FindTopic(w.ctx, "orders")
	w.must(err)
	if got.TopicID != topic.ID || got.NumPartitions != 1 || got.ReplicationFactor != 1 {
		t.Errorf("the answer is %+v", got)
	}
	settings := make(map[string]string)
	for _, s := range got.Configs {
		settings[s.Name] = *s.Value
	}
	if settings["max.message.bytes"] != "65536" || settings["tidemark.durability"] != "disk" || settings["tidemark.column.amount"] != "DOUBLE" || settings["compression.type"] != "producer" {
		t.Errorf("the answer's settings are %v", settings)
	}
	if c := topic.Config; c.MaxMessageBytes != 65536 || c.Durability != meta.DurabilityDisk || c.Columns()["amount"] != "DOUBLE" {
		t.Errorf("the topic's settings are %v", c.Map())
	}

	// Its partitions have leaders when the answer comes, and more can be had.
	grown := askWire[*kmsg.CreatePartitionsResponse](c, 3, createPartitions("orders", 5)).Topics[0]
	expect(t, "grow", grown.ErrorCode, grown.ErrorMessage, nil, "")
	answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("orders"))
	if got := answer.Topics[0]; len(got.Partitions) != 5 || got.Partitions[4].Leader < 0 {
		t.Errorf("after it was grown: %+v", got)
	}

	// It goes by its id, and then a new one of the name is another.
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TimeoutMillis = 15_000
	gone.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: topic.ID}}
	deleted := askWire[*kmsg.DeleteTopicsResponse](c, 6, gone).Topics[0]
	expect(t, "delete", deleted.ErrorCode, deleted.ErrorMessage, nil, "")
	if deleted.Topic == nil || *deleted.Topic != "orders" || deleted.TopicID != topic.ID {
		t.Errorf("deleted is %+v", deleted)
	}
	if answer := askWire[*kmsg.MetadataResponse](c, 12, aboutTopics("orders")); answer.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("after it was deleted: %+v", answer.Topics[0])
	}
	again := askWire[*kmsg.CreateTopicsResponse](c, 7, createTopics(toCreate("orders"))).Topics[0]
	if again.ErrorCode != 0 || again.TopicID == topic.ID {
		t.Errorf("made again: %+v", again)
	}
}

func TestTopicsInEveryVersion(t *testing.T) {
	w := newWorld(t, 1, func(_ *ingest.Config, served *Config) { served.Partitions = 2 })
	c := w.dial(w.nodes[0])
	for version := int16(2); version <= 7; version++ {
		name := "v" + strconv.Itoa(int(version))
		answer := askWire[*kmsg.CreateTopicsResponse](c, version, createTopics(toCreate(name)))
		got := answer.Topics[0]
		expect(t, "create in version "+name, got.ErrorCode, got.ErrorMessage, nil, "")
		if got.Topic != name || version >= 5 && (got.NumPartitions != 2 || len(got.Configs) != len(topicSettings)) || version >= 7 && got.TopicID == [16]byte{} {
			t.Errorf("create in version %d: %+v", version, got)
		}
		again := askWire[*kmsg.CreateTopicsResponse](c, version, createTopics(toCreate(name))).Topics[0]
		expect(t, "create once more in version "+name, again.ErrorCode, again.ErrorMessage, kerr.TopicAlreadyExists, "exists")
	}
	for version := range int16(4) {
		got := askWire[*kmsg.CreatePartitionsResponse](c, version, createPartitions("v7", 3+int32(version))).Topics[0]
		expect(t, fmt.Sprintf("grow in version %d", version), got.ErrorCode, got.ErrorMessage, nil, "")
	}
	if topic, err := w.nodes[0].router.FindTopic(w.ctx, "v7"); err != nil || topic.Partitions != 6 {
		t.Errorf("the topic has %d partitions: %v", topic.Partitions, err)
	}
	for version := int16(1); version <= 6; version++ {
		name := "v" + strconv.Itoa(int(version)+1)
		got := askWire[*kmsg.DeleteTopicsResponse](c, version, deleteTopics(name)).Topics[0]
		if got.ErrorCode != 0 || got.Topic == nil || *got.Topic != name {
			t.Errorf("delete in version %d: %+v", version, got)
		}
		if got := askWire[*kmsg.DeleteTopicsResponse](c, version, deleteTopics(name)).Topics[0]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("delete once more in version %d: %+v", version, got)
		}
	}
}

// badTopic is a topic that is not made, and why.
type badTopic struct {
	what string
	ask  kmsg.CreateTopicsRequestTopic
	code *kerr.Error
	says string
}

func badTopics(self int32) []badTopic {
	with := func(change func(*kmsg.CreateTopicsRequestTopic)) kmsg.CreateTopicsRequestTopic {
		q := toCreate("refused")
		change(&q)
		return q
	}
	assigned := func(replicas ...[]int32) kmsg.CreateTopicsRequestTopic {
		return with(func(q *kmsg.CreateTopicsRequestTopic) {
			for n, r := range replicas {
				q.ReplicaAssignment = append(q.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: int32(n), Replicas: r})
			}
		})
	}
	twiceAssigned := assigned([]int32{self}, []int32{self})
	twiceAssigned.ReplicaAssignment[1].Partition = 0
	counted := assigned([]int32{self})
	counted.NumPartitions = 1
	noValue := toCreate("refused", "max.message.bytes", "")
	noValue.Configs[0].Value = nil
	return []badTopic{
		{"a name that is none", toCreate("no name"), kerr.InvalidTopicException, "letters"},
		{"no partition", with(func(q *kmsg.CreateTopicsRequestTopic) { q.NumPartitions = 0 }), kerr.InvalidPartitions, "1 to 10000"},
		{"too many partitions", with(func(q *kmsg.CreateTopicsRequestTopic) { q.NumPartitions = 10_001 }), kerr.InvalidPartitions, "1 to 10000"},
		{"no replica", with(func(q *kmsg.CreateTopicsRequestTopic) { q.ReplicationFactor = 0 }), kerr.InvalidReplicationFactor, "object store"},
		{"two replicas by hand", assigned([]int32{self, self}), kerr.InvalidReplicaAssignment, "one replica"},
		{"a node that is not there", assigned([]int32{self}, []int32{self + 1}), kerr.InvalidReplicaAssignment, strconv.Itoa(int(self + 1))},
		{"one partition assigned twice", twiceAssigned, kerr.InvalidReplicaAssignment, "each once"},
		{"assigned and counted", counted, kerr.InvalidRequest, "-1"},
		{"an unknown setting", toCreate("refused", "colour", "blue"), kerr.InvalidConfig, `unknown topic setting "colour"; known are cleanup.policy`},
		{"a setting of Kafka's without meaning", toCreate("refused", "segment.bytes", "1048576"), kerr.InvalidConfig, "segment.bytes cannot be set: "},
		{"a value that is none of ours", toCreate("refused", "cleanup.policy", "compact"), kerr.InvalidConfig, "it can only be delete, because topics are not compacted"},
		{"retention", toCreate("refused", "retention.ms", "604800000"), kerr.InvalidConfig, "retention.ms=\"604800000\": it can only be -1"},
		{"a size out of range", toCreate("refused", "max.message.bytes", "1"), kerr.InvalidConfig, "max.message.bytes"},
		{"a durability that is none", toCreate("refused", "tidemark.durability", "tape"), kerr.InvalidConfig, "object or disk"},
		{"a column's type that is none", toCreate("refused", "tidemark.column.a", "COLOUR"), kerr.InvalidConfig, "BIGINT"},
		{"a setting twice", toCreate("refused", "max.message.bytes", "2048", "max.message.bytes", "2048"), kerr.InvalidRequest, "more than once"},
		{"a setting without a value", noValue, kerr.InvalidConfig, "no value"},
	}
}

// Each topic of a request has its own outcome, and one that is refused takes no other with it.
func TestEachTopicHasItsOutcome(t *testing.T) {
	w := newWorld(t, 1)
	c := w.dial(w.nodes[0])
	self := BrokerID("n1")
	for i, bad := range badTopics(self) {
		good := "good-" + strconv.Itoa(i)
		answer := askWire[*kmsg.CreateTopicsResponse](c, 7, createTopics(bad.ask, toCreate(good)))
		got := answer.Topics[0]
		expect(t, bad.what, got.ErrorCode, got.ErrorMessage, bad.code, bad.says)
		if got := answer.Topics[1]; got.Topic != good || got.ErrorCode != 0 {
			t.Errorf("beside %s: %+v", bad.what, got)
		}
	}
	if _, err := w.nodes[0].router.FindTopic(w.ctx, "refused"); ingest.ReasonOf(err) != ingest.ReasonUnknownTopic {
		t.Errorf("a refused topic is there: %v", err)
	}

	// What is named twice is not made, and answered once.
	answer := askWire[*kmsg.CreateTopicsResponse](c, 7, createTopics(toCreate("twice"), toCreate("single"), toCreate("twice")))
	if len(answer.Topics) != 2 {
		t.Fatalf("%d answers", len(answer.Topics))
	}
	expect(t, "named twice", answer.Topics[0].ErrorCode, answer.Topics[0].ErrorMessage, kerr.InvalidRequest, "more than once")
	expect(t, "beside it", answer.Topics[1].ErrorCode, answer.Topics[1].ErrorMessage, nil, "")

	// An assignment with one node for each partition is a wish that is taken.
	q := toCreate("assigned")
	for n := range int32(3) {
		q.ReplicaAssignment = append(q.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: 2 - n, Replicas: []int32{self}})
	}
	got := askWire[*kmsg.CreateTopicsResponse](c, 7, createTopics(q)).Topics[0]
	if got.ErrorCode != 0 || got.NumPartitions != 3 {
		t.Errorf("assigned: %+v", got)
	}
}

func TestManyTopicsAtOnce(t *testing.T) {
	w := newWorld(t, 2)
	c := w.dial(w.nodes[0])
	var q []kmsg.CreateTopicsRequestTopic
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("many-%02d", i))
		q = append(q, toCreate(names[i]))
	}
	for i, got := range askWire[*kmsg.CreateTopicsResponse](c, 7, createTopics(q...)).Topics {
		if got.Topic != names[i] || got.ErrorCode != 0 {
			t.Errorf("answer %d: %+v", i, got)
		}
	}
	for i, got := range askWire[*kmsg.DeleteTopicsResponse](c, 5, deleteTopics(names...)).Topics {
		if got.Topic == nil || *got.Topic != names[i] {
			t.Errorf("answer %d: %+v", i, got)
		}
		expect(t, names[i], got.ErrorCode, got.ErrorMessage, nil, "")
	}
	index, err := w.nodes[0].router.Index()
	w.must(err)
	if left := index.Topics(); len(left) != 0 {
		t.Errorf("%d topics are left", len(left))
	}
}

func TestValidatingChangesNothing(t *testing.T) {
	w := newWorld(t, 1)
	w.create("there", 2)
	c := w.dial(w.nodes[0])
	q := createTopics(toCreate("tried", "max.message.bytes", "2048"), toCreate("there"), toCreate("tried-badly", "colour", "blue"))
	q.ValidateOnly = true
	got := askWire[*kmsg.CreateTopicsResponse](c, 7, q).Topics
	expect(t, "a topic that could be made", got[0].ErrorCode, got[0].ErrorMessage, nil, "")
	expect(t, "one that is there", got[1].ErrorCode, got[1].ErrorMessage, kerr.TopicAlreadyExists, "exists")
	expect(t, "one with an unknown setting", got[2].ErrorCode, got[2].ErrorMessage, kerr.InvalidConfig, "colour")
	if got[0].NumPartitions != 1 || got[0].TopicID != [16]byte{} {
		t.Errorf("what would be made: %+v", got[0])
	}
	if _, err := w.nodes[0].router.FindTopic(w.ctx, "tried"); ingest.ReasonOf(err) != ingest.ReasonUnknownTopic {
		t.Errorf("it was made: %v", err)
	}
	grow := createPartitions("there", 3)
	grow.ValidateOnly = true
	grown := askWire[*kmsg.CreatePartitionsResponse](c, 3, grow).Topics[0]
	expect(t, "grow", grown.ErrorCode, grown.ErrorMessage, nil, "")
	if topic, err := w.nodes[0].router.FindTopic(w.ctx, "there"); err != nil || topic.Partitions != 2 {
		t.Errorf("it has %d partitions: %v", topic.Partitions, err)
	}
}

func TestDeletionsThatAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	c := w.dial(w.nodes[0])
	name := "orders"
	unknown := "nobody"
	bad := "no name"
	q := kmsg.NewPtrDeleteTopicsRequest()
	q.TimeoutMillis = 15_000
	q.Topics = []kmsg.DeleteTopicsRequestTopic{
		{Topic: &name, TopicID: topic.ID}, {}, {TopicID: [16]byte{9}}, {Topic: &unknown}, {Topic: &bad}, {TopicID: [16]byte{8}}, {TopicID: [16]byte{8}},
	}
	got := askWire[*kmsg.DeleteTopicsResponse](c, 6, q).Topics
	if len(got) != 6 {
		t.Fatalf("%d answers", len(got))
	}
	expect(t, "name and id", got[0].ErrorCode, got[0].ErrorMessage, kerr.InvalidRequest, "not both")
	expect(t, "neither", got[1].ErrorCode, got[1].ErrorMessage, kerr.InvalidRequest, "no topic")
	expect(t, "an unknown id", got[2].ErrorCode, got[2].ErrorMessage, kerr.UnknownTopicID, "")
	expect(t, "an unknown name", got[3].ErrorCode, got[3].ErrorMessage, kerr.UnknownTopicOrPartition, "nobody")
	expect(t, "a name that is none", got[4].ErrorCode, got[4].ErrorMessage, kerr.InvalidTopicException, "no name")
	expect(t, "an id twice", got[5].ErrorCode, got[5].ErrorMessage, kerr.InvalidRequest, "more than once")
	if _, err := w.nodes[0].router.FindTopic(w.ctx, "orders"); err != nil {
		t.Errorf("the topic is gone: %v", err)
	}
}

func TestPartitionsThatCannotBeHad(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 3)
	c := w.dial(w.nodes[0])
	self := BrokerID("n1")
	for _, bad := range []struct {
		what string
		ask  *kmsg.CreatePartitionsRequest
		code *kerr.Error
		says string
	}{
		{"as many as there are", createPartitions("orders", 3), kerr.InvalidPartitions, "has 3 partitions"},
		{"fewer", createPartitions("orders", 1), kerr.InvalidPartitions, "new total"},
		{"none", createPartitions("orders", -1), kerr.InvalidPartitions, "new total"},
		{"too many", createPartitions("orders", 10_001), kerr.InvalidPartitions, "1 to 10000"},
		{"of no topic", createPartitions("nobody", 3), kerr.UnknownTopicOrPartition, "nobody"},
		{"of a name that is none", createPartitions("no name", 3), kerr.InvalidTopicException, "no name"},
		{"assigned to too few", createPartitions("orders", 5, self), kerr.InvalidReplicaAssignment, "gets 2 partitions"},
		{"assigned to nobody", createPartitions("orders", 4, self+1), kerr.InvalidReplicaAssignment, "no node"},
	} {
		got := askWire[*kmsg.CreatePartitionsResponse](c, 3, bad.ask).Topics[0]
		expect(t, bad.what, got.ErrorCode, got.ErrorMessage, bad.code, bad.says)
	}
	got := askWire[*kmsg.CreatePartitionsResponse](c, 3, createPartitions("orders", 5, self, self)).Topics[0]
	expect(t, "assigned to one node each", got.ErrorCode, got.ErrorMessage, nil, "")
}

// Bad days of a cluster, in the words that make clients do the right thing.
func TestChangesOnABadDay(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	cluster.add("orders", 1)
	c := serveFake(t, "n1", cluster)
	create := func(q *kmsg.CreateTopicsRequest) kmsg.CreateTopicsResponseTopic {
		return askWire[*kmsg.CreateTopicsResponse](c, 7, q).Topics[0]
	}
	outcome := func(outcome func(ctx context.Context, name string, partitions int32, ifNotExists bool) (meta.Topic, bool, error)) {
		cluster.now(func(f *fakeCluster) { f.create = outcome })
	}

	got := create(createTopics(toCreate("new")))
	expect(t, "etcd is away", got.ErrorCode, got.ErrorMessage, kerr.NotController, "etcd is away")

	outcome(func(_ context.Context, name string, partitions int32, _ bool) (meta.Topic, bool, error) {
		return meta.Topic{Name: name, ID: meta.TopicID{5}, Partitions: partitions, Config: meta.DefaultTopicConfig()}, true,
			ingest.Errorf(ingest.ReasonNotLeader, "not all partitions have a leader yet")
	})
	got = create(createTopics(toCreate("new")))
	expect(t, "it is there and has no leaders", got.ErrorCode, got.ErrorMessage, nil, "")
	if got.TopicID != [16]byte{5} {
		t.Errorf("its id is %x", got.TopicID)
	}

	outcome(func(context.Context, string, int32, bool) (meta.Topic, bool, error) {
		return meta.Topic{}, false, ingest.Errorf(ingest.ReasonInvalidTopic, "no room for 1 more")
	})
	got = create(createTopics(toCreate("new")))
	expect(t, "no room", got.ErrorCode, got.ErrorMessage, kerr.InvalidPartitions, "no room")
	cluster.now(func(f *fakeCluster) { f.noRoom = true })
	validated := createTopics(toCreate("new"))
	validated.ValidateOnly = true
	got = create(validated)
	expect(t, "no room, when validated", got.ErrorCode, got.ErrorMessage, kerr.InvalidPartitions, "no room")
	grown := askWire[*kmsg.CreatePartitionsResponse](c, 3, createPartitions("orders", 2)).Topics[0]
	expect(t, "no room to grow", grown.ErrorCode, grown.ErrorMessage, kerr.InvalidPartitions, "no room")

	gone := askWire[*kmsg.DeleteTopicsResponse](c, 6, deleteTopics("orders")).Topics[0]
	expect(t, "the node stops", gone.ErrorCode, gone.ErrorMessage, kerr.NotController, "the node stops")
	changed := askWire[*kmsg.IncrementalAlterConfigsResponse](c, 1, changeConfigs("orders", "tidemark.durability=disk")).Resources[0]
	expect(t, "etcd is away", changed.ErrorCode, changed.ErrorMessage, kerr.NotController, "etcd is away")

	// A client waits no longer than it says.
	outcome(func(ctx context.Context, _ string, _ int32, _ bool) (meta.Topic, bool, error) {
		if until, ok := ctx.Deadline(); !ok || until.Sub(clock.System().Now()) > 2*time.Second {
			return meta.Topic{}, false, fmt.Errorf("there is time until %v", until)
		}
		<-ctx.Done()
		return meta.Topic{}, false, ctx.Err()
	})
	hasty := createTopics(toCreate("new"))
	hasty.TimeoutMillis = 1
	got = create(hasty)
	expect(t, "etcd is slow", got.ErrorCode, got.ErrorMessage, kerr.RequestTimedOut, "deadline")

	cluster.now(func(f *fakeCluster) { f.away = ingest.Errorf(ingest.ReasonUnavailable, "the node begins anew") })
	got = create(createTopics(toCreate("new")))
	expect(t, "the node begins anew", got.ErrorCode, got.ErrorMessage, kerr.NotController, "anew")
}

// Requests that name more than anybody needs end their connection before any of it is done.
func TestRequestsThatNameTooMuch(t *testing.T) {
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	names := make([]string, maxNamedTopics+1)
	create, grow := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewPtrCreatePartitionsRequest()
	describe, alter, change := kmsg.NewPtrDescribeConfigsRequest(), kmsg.NewPtrAlterConfigsRequest(), kmsg.NewPtrIncrementalAlterConfigsRequest()
	partitions, transactions := kmsg.NewPtrDescribeTopicPartitionsRequest(), kmsg.NewPtrDescribeTransactionsRequest()
	dirs, elect := kmsg.NewPtrDescribeLogDirsRequest(), kmsg.NewPtrElectLeadersRequest()
	for i := range names {
		names[i] = strconv.Itoa(i)
		create.Topics = append(create.Topics, toCreate(names[i]))
		grow.Topics = append(grow.Topics, createPartitions(names[i], 2).Topics...)
		describe.Resources = append(describe.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: names[i]})
		alter.Resources = append(alter.Resources, kmsg.AlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: names[i]})
		change.Resources = append(change.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: names[i]})
		partitions.Topics = append(partitions.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: names[i]})
		transactions.TransactionalIDs = append(transactions.TransactionalIDs, names[i])
		dirs.Topics = append(dirs.Topics, kmsg.DescribeLogDirsRequestTopic{Topic: names[i], Partitions: []int32{0}})
		elect.Topics = append(elect.Topics, kmsg.ElectLeadersRequestTopic{Topic: names[i], Partitions: []int32{0}})
	}
	wide := kmsg.NewPtrElectLeadersRequest()
	wide.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "orders", Partitions: make([]int32, maxNamedPartitions+1)}}
	for _, q := range []kmsg.Request{create, grow, deleteTopics(names...), describe, alter, change, partitions, transactions, dirs, elect, wide} {
		c := serveFake(t, "n1", cluster)
		c.send(apis[q.Key()].max, q)
		if !c.hungUp() {
			t.Errorf("%s of %d names is answered", kmsg.NameForKey(q.Key()), len(names))
		}
	}
	if looks := cluster.looked(); looks != 0 {
		t.Errorf("etcd was asked %d times", looks)
	}
}

func TestConcurrently(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 1000} {
		var calls atomic.Int64
		seen := make([]bool, n)
		concurrently(n, func(i int) {
			calls.Add(1)
			seen[i] = true
		})
		if calls.Load() != int64(n) || slices.Contains(seen, false) {
			t.Errorf("%d calls of %d", calls.Load(), n)
		}
		if n == 0 {
			continue
		}
		func() {
			defer func() {
				if cause := recover(); cause == nil || !strings.HasPrefix(fmt.Sprint(cause), "a bug\n") {
					t.Errorf("of %d: a bug comes out as %v", n, cause)
				}
			}()
			concurrently(n, func(int) { panic("a bug") })
		}()
	}
}
