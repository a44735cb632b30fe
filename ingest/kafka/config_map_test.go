package kafka

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// kafkaSettings are the settings of a topic that Kafka's documentation lists, of versions 2.1 to 4.1.
var kafkaSettings = strings.Fields(`cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level delete.retention.ms
	file.delete.delay.ms flush.messages flush.ms follower.replication.throttled.replicas index.interval.bytes internal.segment.bytes
	leader.replication.throttled.replicas local.retention.bytes local.retention.ms max.compaction.lag.ms max.message.bytes message.downconversion.enable
	message.format.version message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.difference.max.ms message.timestamp.type
	min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate remote.copy.disable remote.log.copy.disable remote.log.delete.on.disable
	remote.storage.enable retention.bytes retention.ms segment.bytes segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable`)

// Each of Kafka's settings either says how a topic is, or is refused with a reason of its own; none is taken and forgotten.
func TestEverySettingOfKafkas(t *testing.T) {
	for _, name := range kafkaSettings {
		s, err := findSetting(name)
		switch {
		case err == nil && s.doc == "":
			t.Errorf("%s says nothing about itself", name)
		case err != nil && (ingest.ReasonOf(err) != ingest.ReasonInvalidConfig || !strings.HasPrefix(err.Error(), "topic setting "+name+" cannot be set: ")):
			t.Errorf("%s is refused so: %v", name, err)
		}
	}
	for _, m := range meaningless {
		if !slices.ContainsFunc(kafkaSettings, func(name string) bool { return strings.HasPrefix(name, m.prefix) }) {
			t.Errorf("Kafka has no setting %s", m.prefix)
		}
	}
}

func TestTheTableOfSettings(t *testing.T) {
	for i, s := range topicSettings {
		if i > 0 && topicSettings[i-1].name >= s.name {
			t.Errorf("%s comes before %s", topicSettings[i-1].name, s.name)
		}
		if s.kind == 0 || s.doc == "" || (s.ours == "") == (s.fixed == "") || (s.fixed == "") != (s.because == "") {
			t.Errorf("%+v", s)
		}
		// Its default may be set, and is the value of a topic for which nobody set anything.
		changes := make(map[string]string)
		if err := s.set(" "+s.byDefault()+" ", changes); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if config, err := meta.ParseTopicConfig(changes); err != nil || config != meta.DefaultTopicConfig() {
			t.Errorf("%s: %v, %v", s.name, config, err)
		}
		if s.ours == "" {
			if err := s.set("something else", changes); err == nil || !strings.Contains(err.Error(), "can only be "+s.fixed+", because") {
				t.Errorf("%s: %v", s.name, err)
			}
		}
	}
	// All settings that a topic of ours can have are in the table.
	for ours := range meta.DefaultTopicConfig().Map() {
		if !slices.ContainsFunc(topicSettings, func(s setting) bool { return s.ours == ours }) {
			t.Errorf("%s is not in the table", ours)
		}
	}
	for _, name := range []string{"", "colour", "durability", "tidemark.column.", "tidemark.colour", "CLEANUP.POLICY", strings.Repeat("x", 10_000)} {
		_, err := findSetting(name)
		if err == nil || !strings.HasPrefix(err.Error(), "unknown topic setting ") || !strings.Contains(err.Error(), "tidemark.durability") || len(err.Error()) > 1000 {
			t.Errorf("%.40q is refused so: %v", name, err)
		}
	}
}

func TestTheSettingsOfATopic(t *testing.T) {
	config, err := meta.ParseTopicConfig(map[string]string{"durability": "disk", "column.a b": "BIGINT", "column.zoo": "JSON"})
	if err != nil {
		t.Fatal(err)
	}
	settings := settingsOf(config)
	if len(settings) != len(topicSettings)+2 || !slices.IsSortedFunc(settings, func(a, b shown) int { return strings.Compare(a.name, b.name) }) {
		t.Fatalf("%+v", settings)
	}
	// What is told of a topic makes another one like it.
	changes := make(map[string]string)
	for _, one := range settings {
		s, err := findSetting(one.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.set(one.value, changes); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := meta.ParseTopicConfig(changes); err != nil || again != config {
		t.Errorf("%v, %v", again.Map(), err)
	}
	// And each reset by itself leads back.
	for _, one := range settings {
		one.reset(changes)
	}
	if reset, err := config.With(changes); err != nil || reset != meta.DefaultTopicConfig() {
		t.Errorf("%v, %v", reset.Map(), err)
	}
}
