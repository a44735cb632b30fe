package kafka

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// setting is one of a topic's settings under the name by which Kafka's clients know it.
//
// There are three kinds. Some are settings of ours, of Kafka's name where they mean the same and of our own, tidemark.*, where Kafka has none. Some are
// Kafka's, and have one value that says how a topic is here: they are shown, may be set to that value, and are refused with another. And some of
// Kafka's have no meaning here at all: they are not shown, and refused with the reason.
type setting struct {
	name string
	kind kmsg.ConfigType
	// synonym is the broker's setting that is the default in Kafka's words; "" when there is none.
	synonym string
	// ours is the name of the setting in package meta; "" for one with a fixed value.
	ours string
	// fixed is the only value of one that is not ours, and because says why it has no other.
	fixed, because string
	doc            string
}

// Names of our own settings.
const (
	settingPrefix = "tidemark."
	columnPrefix  = settingPrefix + meta.ConfigColumn
)

const forever = "9223372036854775807" // what Kafka writes for no limit

// topicSettings are all that are shown, by name, but for the columns.
var topicSettings = []setting{
	{
		name: "cleanup.policy", kind: kmsg.ConfigTypeList, synonym: "log.cleanup.policy", fixed: "delete", because: "topics are not compacted by key",
		doc: "How old records go. Only \"delete\": topics are not compacted by key.",
	},
	{
		name: "compression.type", kind: kmsg.ConfigTypeString, synonym: "compression.type", fixed: "producer", because: "batches are kept as their producers sent them",
		doc: "How batches are compressed. Only \"producer\": they are kept as their producers compressed them.",
	},
	{
		name: "max.message.bytes", kind: kmsg.ConfigTypeInt, synonym: "message.max.bytes", ours: meta.ConfigMaxMessageBytes,
		doc: "The greatest batch, in bytes, as its producer sends it.",
	},
	{
		name: "message.timestamp.after.max.ms", kind: kmsg.ConfigTypeLong, synonym: "log.message.timestamp.after.max.ms", fixed: forever, because: "timestamps are kept as producers set them",
		doc: "How far a timestamp may lie ahead of the node's clock. It is not checked.",
	},
	{
		name: "message.timestamp.before.max.ms", kind: kmsg.ConfigTypeLong, synonym: "log.message.timestamp.before.max.ms", fixed: forever, because: "timestamps are kept as producers set them",
		doc: "How far a timestamp may lie behind the node's clock. It is not checked.",
	},
	{
		name: "message.timestamp.type", kind: kmsg.ConfigTypeString, synonym: "log.message.timestamp.type", fixed: "CreateTime", because: "timestamps are kept as producers set them",
		doc: "Whose clock a record's timestamp is of. Only \"CreateTime\": that of its producer.",
	},
	{
		name: "min.insync.replicas", kind: kmsg.ConfigTypeInt, synonym: "min.insync.replicas", fixed: "1", because: "copies are kept by the object store, and " + settingPrefix + meta.ConfigDurability + " says what an acknowledgement promises",
		doc: "How many nodes have a record before acks=all is answered. Always 1: the object store keeps the copies, and tidemark.durability says what an acknowledgement promises.",
	},
	{
		name: "retention.bytes", kind: kmsg.ConfigTypeLong, synonym: "log.retention.bytes", fixed: "-1", because: "nothing removes old records yet",
		doc: "The size at which a partition loses its oldest records. Only -1, never: nothing removes old records yet.",
	},
	{
		name: "retention.ms", kind: kmsg.ConfigTypeLong, synonym: "log.retention.ms", fixed: "-1", because: "nothing removes old records yet",
		doc: "The age at which records go. Only -1, never: nothing removes old records yet.",
	},
	{
		name: settingPrefix + meta.ConfigDurability, kind: kmsg.ConfigTypeString, ours: meta.ConfigDurability,
		doc: "What is done before acks=all is answered: with \"object\" the record is in the object store and committed, and survives the loss of any node and its disk; with \"disk\" it is synced on its leader's disk, and survives a crash, not the loss of that disk before the next upload.",
	},
	{
		name: "unclean.leader.election.enable", kind: kmsg.ConfigTypeBoolean, synonym: "unclean.leader.election.enable", fixed: "false", because: "a node leads only with all that was acknowledged",
		doc: "Whether a node may lead that lacks records. Always false.",
	},
}

const columnDoc = "The type of the column that SQL makes of the field of this name: BOOLEAN, BIGINT, DOUBLE, VARCHAR or JSON. Without it the first value decides."

// meaningless are settings of Kafka's topics that say nothing here, by what they begin with.
var meaningless = []struct{ prefix, because string }{
	{"segment.", "the log has objects of many partitions instead of segment files, and when one is written is a setting of the node"},
	{"index.", "the index of the log is not in files of its own"},
	{"internal.segment.", "the log has objects of many partitions instead of segment files"},
	{"flush.", settingPrefix + meta.ConfigDurability + "=disk syncs every batch before it is acknowledged"},
	{"file.delete.delay.ms", "there are no segment files"},
	{"preallocate", "there are no segment files"},
	{"compression.", "batches are kept as their producers compressed them"},
	{"delete.retention.ms", "topics are not compacted by key"},
	{"min.cleanable.dirty.ratio", "topics are not compacted by key"},
	{"min.compaction.lag.ms", "topics are not compacted by key"},
	{"max.compaction.lag.ms", "topics are not compacted by key"},
	{"leader.replication.throttled.replicas", "nodes do not copy records from each other"},
	{"follower.replication.throttled.replicas", "nodes do not copy records from each other"},
	{"remote.", "every record goes to the object store anyway"},
	{"local.retention.", "a node keeps on its disk what is not in the object store yet"},
	{"message.format.version", "there is one format of batches, version 2"},
	{"message.downconversion.enable", "there is one format of batches, version 2"},
	{"message.timestamp.difference.max.ms", "timestamps are kept as producers set them"},
}

// findSetting finds a setting that can be set, or says why there is none.
func findSetting(name string) (setting, error) {
	if i, ok := slices.BinarySearchFunc(topicSettings, name, func(s setting, name string) int { return strings.Compare(s.name, name) }); ok {
		return topicSettings[i], nil
	}
	if column, ok := strings.CutPrefix(name, columnPrefix); ok && column != "" {
		return setting{name: name, kind: kmsg.ConfigTypeString, ours: meta.ConfigColumn + column, doc: columnDoc}, nil
	}
	for _, m := range meaningless {
		if strings.HasPrefix(name, m.prefix) {
			return setting{}, ingest.Errorf(ingest.ReasonInvalidConfig, "topic setting %s cannot be set: %s", name, m.because)
		}
	}
	return setting{}, ingest.Errorf(ingest.ReasonInvalidConfig, "unknown topic setting %.128q; known are %s", name, knownSettings())
}

func knownSettings() string {
	var names []string
	for _, s := range topicSettings {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ") + " and " + columnPrefix + "NAME"
}

// byDefault is the value that a setting has when nobody sets it; "" for a column.
func (s setting) byDefault() string {
	if s.ours == "" {
		return s.fixed
	}
	return meta.DefaultTopicConfig().Map()[s.ours]
}

// isDefault tells whether a topic has the value that it would have if nobody had set it.
func (s setting) isDefault(value string) bool { return value == s.byDefault() }

// set adds to changes, in the words of package meta, that a setting gets a value.
func (s setting) set(value string, changes map[string]string) error {
	value = strings.TrimSpace(value)
	if s.kind == kmsg.ConfigTypeBoolean {
		value = strings.ToLower(value)
	}
	switch {
	case s.ours != "":
		if _, err := meta.DefaultTopicConfig().With(map[string]string{s.ours: value}); err != nil {
			return ingest.Errorf(ingest.ReasonInvalidConfig, "topic setting %s: %w", s.name, err)
		}
		changes[s.ours] = value
	case value != s.fixed:
		return ingest.Errorf(ingest.ReasonInvalidConfig, "topic setting %s=%.128q: it can only be %s, because %s", s.name, value, s.fixed, s.because)
	}
	return nil
}

// reset adds to changes that a setting gets its default.
func (s setting) reset(changes map[string]string) {
	if s.ours != "" {
		changes[s.ours] = s.byDefault()
	}
}

// shown is a setting with its value in force.
type shown struct {
	setting
	value string
}

// settingsOf lists the settings of a topic by name.
func settingsOf(c meta.TopicConfig) []shown {
	values := c.Map()
	out := make([]shown, 0, len(topicSettings)+len(values))
	for _, s := range topicSettings {
		value := s.fixed
		if s.ours != "" {
			value = values[s.ours]
		}
		out = append(out, shown{setting: s, value: value})
	}
	for ours, value := range values {
		if strings.HasPrefix(ours, meta.ConfigColumn) {
			out = append(out, shown{setting: setting{name: settingPrefix + ours, kind: kmsg.ConfigTypeString, ours: ours, doc: columnDoc}, value: value})
		}
	}
	slices.SortFunc(out, func(a, b shown) int { return strings.Compare(a.name, b.name) })
	return out
}

// source is where a value comes from, as Kafka tells it.
func (s shown) source() kmsg.ConfigSource {
	if s.isDefault(s.value) {
		return kmsg.ConfigSourceDefaultConfig
	}
	return kmsg.ConfigSourceDynamicTopicConfig
}

// brokerSettings are those of a node that tools look for, by name, each as it is here. None can be changed while the node runs.
func (s *Server) brokerSettings(b broker) []shown {
	number := strconv.Itoa
	address := "PLAINTEXT://" + net.JoinHostPort(b.host, number(int(b.port)))
	brokerSetting := func(name string, kind kmsg.ConfigType, value, doc string) shown {
		return shown{setting: setting{name: name, kind: kind, fixed: value, doc: doc}, value: value}
	}
	topic := meta.DefaultTopicConfig()
	return []shown{
		brokerSetting("advertised.listeners", kmsg.ConfigTypeString, address, "Where clients reach this node."),
		brokerSetting("authorizer.class.name", kmsg.ConfigTypeString, "", "Nobody is asked who may do what."),
		brokerSetting("auto.create.topics.enable", kmsg.ConfigTypeBoolean, strconv.FormatBool(s.AutoCreateTopics), "Whether a topic is made when a client asks for one that is not there."),
		brokerSetting("auto.leader.rebalance.enable", kmsg.ConfigTypeBoolean, "true", "Partitions are spread over the nodes by themselves."),
		brokerSetting("broker.id", kmsg.ConfigTypeInt, number(int(b.id)), "A hash of the node's id, by which Kafka's clients know it."),
		brokerSetting("broker.rack", kmsg.ConfigTypeString, b.zone, "The node's zone."),
		brokerSetting("compression.type", kmsg.ConfigTypeString, "producer", "Batches are kept as their producers compressed them."),
		brokerSetting("connections.max.idle.ms", kmsg.ConfigTypeLong, number(int(idlePatience.Milliseconds())), "How long a client may ask nothing before it is disconnected."),
		brokerSetting("default.replication.factor", kmsg.ConfigTypeInt, "1", "The object store keeps the copies."),
		brokerSetting("delete.topic.enable", kmsg.ConfigTypeBoolean, "true", "Topics can be deleted."),
		// Kafka 4 has no such setting any more, so it says the last version that had; tools that find none take the node for one of version 1.0.
		brokerSetting("inter.broker.protocol.version", kmsg.ConfigTypeString, "3.9-IV0", "The version of Kafka whose requests tools may use. Nodes speak a protocol of their own with each other."),
		brokerSetting("log.cleanup.policy", kmsg.ConfigTypeList, "delete", "Topics are not compacted by key."),
		brokerSetting("log.dirs", kmsg.ConfigTypeString, logDir, "Stands for the object store in answers that want a directory."),
		brokerSetting("log.message.timestamp.type", kmsg.ConfigTypeString, "CreateTime", "Timestamps are kept as producers set them."),
		brokerSetting("log.retention.bytes", kmsg.ConfigTypeLong, "-1", "Nothing removes old records yet."),
		brokerSetting("log.retention.ms", kmsg.ConfigTypeLong, "-1", "Nothing removes old records yet."),
		brokerSetting("max.connections", kmsg.ConfigTypeInt, number(maxConnections), "How many clients may be connected."),
		brokerSetting("max.request.partition.size.limit", kmsg.ConfigTypeInt, number(maxAnsweredPartitions), "How many partitions one answer describes when its request can be continued."),
		brokerSetting("message.max.bytes", kmsg.ConfigTypeInt, number(topic.MaxMessageBytes), "The greatest batch of a topic that sets none."),
		brokerSetting("min.insync.replicas", kmsg.ConfigTypeInt, "1", "The object store keeps the copies."),
		brokerSetting("node.id", kmsg.ConfigTypeInt, number(int(b.id)), "A hash of the node's id, by which Kafka's clients know it."),
		brokerSetting("num.partitions", kmsg.ConfigTypeInt, number(int(s.Partitions)), "How many partitions a topic has when nobody says how many."),
		brokerSetting("socket.request.max.bytes", kmsg.ConfigTypeInt, number(produceFrame), "The greatest request."),
		brokerSetting("unclean.leader.election.enable", kmsg.ConfigTypeBoolean, "false", "A node leads only with all that was acknowledged."),
	}
}
