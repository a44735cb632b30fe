package kafka

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

func describeConfigs(kind kmsg.ConfigResourceType, name string, settings ...string) *kmsg.DescribeConfigsRequest {
	q := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, settings
	q.Resources = append(q.Resources, r)
	q.IncludeSynonyms, q.IncludeDocumentation = true, true
	return q
}

// configsOf are the settings of an answer by name.
func configsOf(r kmsg.DescribeConfigsResponseResource) map[string]kmsg.DescribeConfigsResponseResourceConfig {
	out := make(map[string]kmsg.DescribeConfigsResponseResourceConfig)
	for _, c := range r.Configs {
		out[c.Name] = c
	}
	return out
}

// alterConfigs sets all settings of a topic; settings are pairs of names and values.
func alterConfigs(topic string, settings ...string) *kmsg.AlterConfigsRequest {
	q := kmsg.NewPtrAlterConfigsRequest()
	r := kmsg.NewAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for i := 0; i < len(settings); i += 2 {
		r.Configs = append(r.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: settings[i], Value: &settings[i+1]})
	}
	q.Resources = append(q.Resources, r)
	return q
}

// changeConfigs changes some settings of a topic; edits are like "name=value" to set and "-name" for the default.
func changeConfigs(topic string, edits ...string) *kmsg.IncrementalAlterConfigsRequest {
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for _, edit := range edits {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		if name, unset := strings.CutPrefix(edit, "-"); unset {
			c.Name, c.Op = name, kmsg.IncrementalAlterConfigOpDelete
		} else {
			name, value, _ := strings.Cut(edit, "=")
			c.Name, c.Op, c.Value = name, kmsg.IncrementalAlterConfigOpSet, &value
		}
		r.Configs = append(r.Configs, c)
	}
	q.Resources = append(q.Resources, r)
	return q
}

func TestATopicsSettingsAreTold(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 1, "max.message.bytes", "4096", "column.amount", "DOUBLE")
	c := w.dial(w.nodes[0])
	for version := int16(1); version <= 4; version++ {
		got := askWire[*kmsg.DescribeConfigsResponse](c, version, describeConfigs(kmsg.ConfigResourceTypeTopic, "orders")).Resources[0]
		expect(t, "describe", got.ErrorCode, got.ErrorMessage, nil, "")
		configs := configsOf(got)
		if len(configs) != len(topicSettings)+1 || len(got.Configs) != len(configs) {
			t.Fatalf("version %d: %d settings", version, len(got.Configs))
		}
		size, policy, column := configs["max.message.bytes"], configs["cleanup.policy"], configs["tidemark.column.amount"]
		if *size.Value != "4096" || size.ReadOnly || size.Source != kmsg.ConfigSourceDynamicTopicConfig {
			t.Errorf("version %d: one that was set: %+v", version, size)
		}
		if *policy.Value != "delete" || !policy.ReadOnly || policy.Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("version %d: one that has one value: %+v", version, policy)
		}
		if *column.Value != "DOUBLE" || column.ReadOnly || column.Source != kmsg.ConfigSourceDynamicTopicConfig {
			t.Errorf("version %d: a column: %+v", version, column)
		}
		if s := size.ConfigSynonyms; len(s) != 2 || *s[0].Value != "4096" || s[1].Name != "message.max.bytes" || *s[1].Value != "1048588" || s[1].Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("version %d: synonyms: %+v", version, s)
		}
		if version < 3 {
			continue
		}
		for name, c := range configs {
			if c.ConfigType == kmsg.ConfigTypeUnknown || c.Documentation == nil || *c.Documentation == "" {
				t.Errorf("version %d: %s: %+v", version, name, c)
			}
		}
	}

	t.Run("some of them", func(t *testing.T) {
		q := describeConfigs(kmsg.ConfigResourceTypeTopic, "orders", "retention.ms", "colour")
		q.IncludeSynonyms, q.IncludeDocumentation = false, false
		got := askWire[*kmsg.DescribeConfigsResponse](c, 4, q).Resources[0]
		if len(got.Configs) != 1 || got.Configs[0].Name != "retention.ms" || got.Configs[0].Documentation != nil || len(got.Configs[0].ConfigSynonyms) != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("of several resources, each once", func(t *testing.T) {
		q := describeConfigs(kmsg.ConfigResourceTypeTopic, "orders")
		q.Resources = append(q.Resources, describeConfigs(kmsg.ConfigResourceTypeTopic, "nobody").Resources[0], q.Resources[0], describeConfigs(32, "readers").Resources[0])
		got := askWire[*kmsg.DescribeConfigsResponse](c, 4, q).Resources
		if len(got) != 3 {
			t.Fatalf("%d answers", len(got))
		}
		expect(t, "a topic", got[0].ErrorCode, got[0].ErrorMessage, nil, "")
		expect(t, "no topic", got[1].ErrorCode, got[1].ErrorMessage, kerr.UnknownTopicOrPartition, "nobody")
		expect(t, "a group", got[2].ErrorCode, got[2].ErrorMessage, kerr.InvalidRequest, "only topics and brokers")
	})
}

func TestANodesSettingsAreTold(t *testing.T) {
	w := newWorld(t, 2, func(node *ingest.Config, served *Config) {
		node.Info.Zone, served.AutoCreateTopics, served.Partitions = "a", true, 6
	})
	c := w.dial(w.nodes[0])
	for _, n := range w.nodes {
		id := strconv.Itoa(int(BrokerID(n.id)))
		got := askWire[*kmsg.DescribeConfigsResponse](c, 4, describeConfigs(kmsg.ConfigResourceTypeBroker, id)).Resources[0]
		expect(t, "describe", got.ErrorCode, got.ErrorMessage, nil, "")
		configs := configsOf(got)
		for name, want := range map[string]string{
			"broker.id": id, "advertised.listeners": "PLAINTEXT://" + n.address, "broker.rack": "a", "num.partitions": "6", "auto.create.topics.enable": "true",
			"delete.topic.enable": "true", "default.replication.factor": "1", "log.dirs": logDir, "message.max.bytes": "1048588",
		} {
			if c := configs[name]; c.Value == nil || *c.Value != want {
				t.Errorf("node %s: %s is %+v, not %s", n.id, name, c, want)
			}
		}
		if version := configs["inter.broker.protocol.version"]; version.Value == nil || !strings.HasPrefix(*version.Value, "3.9") {
			t.Errorf("the version that tools look for: %+v", version)
		}
		for _, c := range got.Configs {
			if !c.ReadOnly || c.Source != kmsg.ConfigSourceStaticBrokerConfig || c.IsSensitive || *c.Documentation == "" || len(c.ConfigSynonyms) != 1 || c.ConfigType == 0 {
				t.Errorf("%+v", c)
			}
		}
		if !slices.IsSortedFunc(got.Configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) }) {
			t.Error("they are in no order")
		}
	}
	none := askWire[*kmsg.DescribeConfigsResponse](c, 4, describeConfigs(kmsg.ConfigResourceTypeBroker, "")).Resources[0]
	if none.ErrorCode != 0 || len(none.Configs) != 0 {
		t.Errorf("what was set for all nodes while they run: %+v", none)
	}
	for _, id := range []string{"1", "n1", strings.Repeat("9", 1000)} {
		got := askWire[*kmsg.DescribeConfigsResponse](c, 4, describeConfigs(kmsg.ConfigResourceTypeBroker, id)).Resources[0]
		expect(t, "node "+id[:1], got.ErrorCode, got.ErrorMessage, kerr.InvalidRequest, "no node with the number")
	}
	q := alterConfigs(strconv.Itoa(int(BrokerID("n1"))), "num.partitions", "7")
	q.Resources[0].ResourceType = kmsg.ConfigResourceTypeBroker
	got := askWire[*kmsg.AlterConfigsResponse](c, 2, q).Resources[0]
	expect(t, "alter a node", got.ErrorCode, got.ErrorMessage, kerr.InvalidRequest, "cannot be changed while it runs")
}

func TestATopicsSettingsAreChanged(t *testing.T) {
	w := newWorld(t, 2)
	w.create("orders", 2)
	c := w.dial(w.nodes[1])
	are := func(want ...string) {
		t.Helper()
		topic, err := w.nodes[1].router.FindTopic(w.ctx, "orders")
		w.must(err)
		wanted := meta.DefaultTopicConfig().Map()
		for i := 0; i < len(want); i += 2 {
			wanted[want[i]] = want[i+1]
		}
		if got := topic.Config.Map(); !maps.Equal(got, wanted) {
			t.Fatalf("the settings are %v, not %v", got, wanted)
		}
	}
	change := func(version int16, edits ...string) {
		t.Helper()
		got := askWire[*kmsg.IncrementalAlterConfigsResponse](c, version, changeConfigs("orders", edits...)).Resources[0]
		expect(t, "change", got.ErrorCode, got.ErrorMessage, nil, "")
		if got.ResourceType != kmsg.ConfigResourceTypeTopic || got.ResourceName != "orders" {
			t.Errorf("the answer is about %+v", got)
		}
	}
	alter := func(version int16, settings ...string) {
		t.Helper()
		got := askWire[*kmsg.AlterConfigsResponse](c, version, alterConfigs("orders", settings...)).Resources[0]
		expect(t, "alter", got.ErrorCode, got.ErrorMessage, nil, "")
	}

	change(0, "max.message.bytes=2048", "tidemark.column.amount=double", "tidemark.column.at=BIGINT", "retention.ms=-1")
	are("max.message.bytes", "2048", "column.amount", "DOUBLE", "column.at", "BIGINT")
	change(1, "-tidemark.column.at", "tidemark.durability=disk", "-cleanup.policy")
	are("max.message.bytes", "2048", "column.amount", "DOUBLE", "durability", "disk")
	change(1, "-max.message.bytes", "-tidemark.column.not.there", "-tidemark.durability")
	are("column.amount", "DOUBLE")
	change(1)
	are("column.amount", "DOUBLE")

	// The older request sets all: what it does not name gets its default.
	alter(0, "max.message.bytes", "4096", "tidemark.column.at", "BIGINT", "unclean.leader.election.enable", "FALSE")
	are("max.message.bytes", "4096", "column.at", "BIGINT")
	alter(1, "tidemark.durability", "disk")
	are("durability", "disk")
	alter(2)
	are()
}

func TestChangesOfSettingsThatAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 1, "max.message.bytes", "4096")
	w.create("events", 1)
	c := w.dial(w.nodes[0])
	edited := func(op kmsg.IncrementalAlterConfigOp, value *string) *kmsg.IncrementalAlterConfigsRequest {
		q := changeConfigs("orders", "cleanup.policy=delete")
		q.Resources[0].Configs[0].Op, q.Resources[0].Configs[0].Value = op, value
		return q
	}
	compact := "compact"
	another := changeConfigs("orders", "max.message.bytes=2048")
	another.Resources[0].ResourceType = kmsg.ConfigResourceTypeBrokerLogger
	for _, bad := range []struct {
		what string
		ask  *kmsg.IncrementalAlterConfigsRequest
		code *kerr.Error
		says string
	}{
		{"an unknown setting", changeConfigs("orders", "max.message.bytes=2048", "colour=blue"), kerr.InvalidConfig, "unknown topic setting"},
		{"an unknown setting's default", changeConfigs("orders", "max.message.bytes=2048", "-colour"), kerr.InvalidConfig, "unknown topic setting"},
		{"a value that it cannot have", changeConfigs("orders", "max.message.bytes=2048", "compression.type=zstd"), kerr.InvalidConfig, "can only be producer"},
		{"a value out of range", changeConfigs("orders", "max.message.bytes=1"), kerr.InvalidConfig, "from 1024 to"},
		{"a setting twice", changeConfigs("orders", "max.message.bytes=2048", "-max.message.bytes"), kerr.InvalidRequest, "more than once"},
		{"added to", edited(kmsg.IncrementalAlterConfigOpAppend, &compact), kerr.InvalidConfig, "no list"},
		{"taken from", edited(kmsg.IncrementalAlterConfigOpSubtract, &compact), kerr.InvalidConfig, "no list"},
		{"no operation", edited(9, &compact), kerr.InvalidRequest, "no operation 9"},
		{"no value", edited(kmsg.IncrementalAlterConfigOpSet, nil), kerr.InvalidRequest, "no value"},
		{"no topic", changeConfigs("nobody", "max.message.bytes=2048"), kerr.UnknownTopicOrPartition, "nobody"},
		{"no name", changeConfigs("no name", "max.message.bytes=2048"), kerr.InvalidTopicException, "no name"},
		{"another kind", another, kerr.InvalidRequest, "only topics"},
	} {
		bad.ask.Resources = append(bad.ask.Resources, changeConfigs("events", "max.message.bytes=8192").Resources[0])
		got := askWire[*kmsg.IncrementalAlterConfigsResponse](c, 1, bad.ask).Resources
		expect(t, bad.what, got[0].ErrorCode, got[0].ErrorMessage, bad.code, bad.says)
		expect(t, "beside "+bad.what, got[1].ErrorCode, got[1].ErrorMessage, nil, "")
	}
	twice := changeConfigs("orders", "max.message.bytes=2048")
	twice.Resources = append(twice.Resources, twice.Resources[0])
	got := askWire[*kmsg.IncrementalAlterConfigsResponse](c, 1, twice).Resources
	if len(got) != 1 {
		t.Fatalf("%d answers", len(got))
	}
	expect(t, "a topic twice", got[0].ErrorCode, got[0].ErrorMessage, kerr.InvalidRequest, "more than once")

	tried := changeConfigs("orders", "max.message.bytes=2048")
	tried.ValidateOnly = true
	outcome := askWire[*kmsg.IncrementalAlterConfigsResponse](c, 1, tried).Resources[0]
	expect(t, "validated", outcome.ErrorCode, outcome.ErrorMessage, nil, "")
	all := alterConfigs("orders", "max.message.bytes", "2048")
	all.ValidateOnly = true
	altered := askWire[*kmsg.AlterConfigsResponse](c, 2, all).Resources[0]
	expect(t, "validated", altered.ErrorCode, altered.ErrorMessage, nil, "")
	altered = askWire[*kmsg.AlterConfigsResponse](c, 2, alterConfigs("orders", "colour", "blue")).Resources[0]
	expect(t, "all with an unknown one", altered.ErrorCode, altered.ErrorMessage, kerr.InvalidConfig, "colour")

	if topic, err := w.nodes[0].router.FindTopic(w.ctx, "orders"); err != nil || topic.Config.MaxMessageBytes != 4096 {
		t.Errorf("the topic was changed: %v, %v", topic.Config.Map(), err)
	}
}
