package kafka

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// DescribeConfigs, AlterConfigs and IncrementalAlterConfigs. What the settings are stands in config_map.go.
//
// Topics have settings that can be changed. Those of nodes are told and not changed: a node has them from its start on. Each resource of a request has
// its own outcome.

func configAPIs() []api {
	return []api{
		{key: int16(kmsg.DescribeConfigs), min: 1, max: 4, serve: simple(serveDescribeConfigs)},
		{key: int16(kmsg.AlterConfigs), min: 0, max: 2, serve: simple(serveAlterConfigs)},
		{key: int16(kmsg.IncrementalAlterConfigs), min: 0, max: 1, serve: simple(serveIncrementalAlterConfigs)},
	}
}

// alterMillis is how long changes of settings may take, for which requests bring no time along.
const alterMillis = 30_000

// settingBytes is what one setting takes in an answer, about, with all that is told of it.
const settingBytes = 1 << 10

// resource is what settings belong to.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

func serveDescribeConfigs(ctx context.Context, k *call, q *kmsg.DescribeConfigsRequest) (*kmsg.DescribeConfigsResponse, error) {
	if len(q.Resources) > maxNamedTopics {
		return nil, errTooMany("resources", len(q.Resources), maxNamedTopics)
	}
	s := k.conn.server
	out := kmsg.NewPtrDescribeConfigsResponse()
	index, refused := s.Cluster.Index()
	find := finder{cluster: s.Cluster, index: index}
	resources, _ := once(q.Resources, func(r kmsg.DescribeConfigsRequestResource) resource {
		return resource{kind: r.ResourceType, name: r.ResourceName}
	})
	if err := k.reserve(int64(len(resources)) * int64(len(topicSettings)) * settingBytes); err != nil {
		return nil, err
	}
	for _, r := range resources {
		m := kmsg.NewDescribeConfigsResponseResource()
		m.ResourceType, m.ResourceName = r.ResourceType, r.ResourceName
		var settings []shown
		err := refused
		if err == nil {
			settings, err = s.describe(ctx, k, &find, r)
		}
		m.ErrorCode, m.ErrorMessage = codeOf(err), messageOf(err)
		for _, one := range settings {
			if len(r.ConfigNames) == 0 || slices.Contains(r.ConfigNames, one.name) {
				m.Configs = append(m.Configs, one.message(r.ResourceType, q))
			}
		}
		out.Resources = append(out.Resources, m)
	}
	return out, nil
}

// describe lists the settings of a resource.
func (s *Server) describe(ctx context.Context, k *call, find *finder, r kmsg.DescribeConfigsRequestResource) ([]shown, error) {
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		topic, err := find.named(ctx, r.ResourceName)
		if err != nil {
			return nil, err
		}
		return settingsOf(topic.Config), nil
	case kmsg.ConfigResourceTypeBroker:
		if r.ResourceName == "" {
			return nil, nil // what was set for all nodes while they run: nothing can be
		}
		for _, b := range s.brokers(find.index, k.conn.dialled()) {
			if r.ResourceName == strconv.Itoa(int(b.id)) {
				return s.brokerSettings(b), nil
			}
		}
		return nil, refuse(kerr.InvalidRequest, "there is no node with the number %.20q", r.ResourceName)
	default:
		return nil, refuse(kerr.InvalidRequest, "only topics and brokers have settings; resource type %d has none", r.ResourceType)
	}
}

// message is a setting as a DescribeConfigs of its client tells it.
func (s shown) message(of kmsg.ConfigResourceType, q *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	m := kmsg.NewDescribeConfigsResponseResourceConfig()
	m.Name, m.Value, m.ConfigType = s.name, new(s.value), s.kind
	m.ReadOnly, m.Source = s.ours == "", s.source()
	if of == kmsg.ConfigResourceTypeBroker {
		m.Source = kmsg.ConfigSourceStaticBrokerConfig
	}
	if q.IncludeDocumentation {
		m.Documentation = new(s.doc)
	}
	if q.IncludeSynonyms {
		m.ConfigSynonyms = s.synonyms(m.Source)
	}
	return m
}

// synonyms are the places that a value may come from, the one in force first.
func (s shown) synonyms(source kmsg.ConfigSource) (out []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym) {
	add := func(name, value string, source kmsg.ConfigSource) {
		m := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		m.Name, m.Value, m.Source = name, new(value), source
		out = append(out, m)
	}
	if source != kmsg.ConfigSourceDefaultConfig {
		add(s.name, s.value, source)
	}
	if source != kmsg.ConfigSourceStaticBrokerConfig && s.synonym != "" {
		add(s.synonym, s.byDefault(), kmsg.ConfigSourceDefaultConfig)
	}
	return out
}

func serveAlterConfigs(ctx context.Context, k *call, q *kmsg.AlterConfigsRequest) (*kmsg.AlterConfigsResponse, error) {
	changes := make([]configChange, len(q.Resources))
	for i, r := range q.Resources {
		changes[i] = configChange{resource: resource{kind: r.ResourceType, name: r.ResourceName}, all: true}
		for _, c := range r.Configs {
			changes[i].edits = append(changes[i].edits, configEdit{name: c.Name, op: kmsg.IncrementalAlterConfigOpSet, value: c.Value})
		}
	}
	if err := k.reserve(int64(len(changes)) * settingBytes); err != nil {
		return nil, err
	}
	outcomes, err := k.conn.server.alter(ctx, changes, q.ValidateOnly)
	if err != nil {
		return nil, err
	}
	out := kmsg.NewPtrAlterConfigsResponse()
	for _, o := range outcomes {
		m := kmsg.NewAlterConfigsResponseResource()
		m.ResourceType, m.ResourceName = o.kind, o.name
		m.ErrorCode, m.ErrorMessage = adminError(o.err)
		out.Resources = append(out.Resources, m)
	}
	return out, nil
}

func serveIncrementalAlterConfigs(ctx context.Context, k *call, q *kmsg.IncrementalAlterConfigsRequest) (*kmsg.IncrementalAlterConfigsResponse, error) {
	changes := make([]configChange, len(q.Resources))
	for i, r := range q.Resources {
		changes[i] = configChange{resource: resource{kind: r.ResourceType, name: r.ResourceName}}
		for _, c := range r.Configs {
			changes[i].edits = append(changes[i].edits, configEdit{name: c.Name, op: c.Op, value: c.Value})
		}
	}
	if err := k.reserve(int64(len(changes)) * settingBytes); err != nil {
		return nil, err
	}
	outcomes, err := k.conn.server.alter(ctx, changes, q.ValidateOnly)
	if err != nil {
		return nil, err
	}
	out := kmsg.NewPtrIncrementalAlterConfigsResponse()
	for _, o := range outcomes {
		m := kmsg.NewIncrementalAlterConfigsResponseResource()
		m.ResourceType, m.ResourceName = o.kind, o.name
		m.ErrorCode, m.ErrorMessage = adminError(o.err)
		out.Resources = append(out.Resources, m)
	}
	return out, nil
}

// configChange is what a client wants changed of one resource. With all, settings that are not named get their defaults.
type configChange struct {
	resource

	edits []configEdit
	all   bool
	err   error // what came of it
}

type configEdit struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

// alter makes changes, or finds out whether they could be made, and tells what came of each resource. An error ends the connection.
func (s *Server) alter(ctx context.Context, changes []configChange, validateOnly bool) ([]configChange, error) {
	if len(changes) > maxNamedTopics {
		return nil, errTooMany("resources", len(changes), maxNamedTopics)
	}
	ctx, cancel := adminContext(ctx, alterMillis)
	defer cancel()
	changes, again := once(changes, func(c configChange) resource { return c.resource })
	index, refused := s.Cluster.Index()
	find := finder{cluster: s.Cluster, index: index}
	concurrently(len(changes), func(i int) {
		c := &changes[i]
		switch {
		case refused != nil:
			c.err = refused
		case again[c.resource]:
			c.err = refuse(kerr.InvalidRequest, "the request names a resource more than once")
		case c.kind == kmsg.ConfigResourceTypeBroker:
			c.err = refuse(kerr.InvalidRequest, "the settings of a node cannot be changed while it runs: start it with others")
		case c.kind != kmsg.ConfigResourceTypeTopic:
			c.err = refuse(kerr.InvalidRequest, "only topics have settings that can be changed; resource type %d has none", c.kind)
		default:
			c.err = s.alterTopic(ctx, &find, c, validateOnly)
		}
	})
	return changes, nil
}

func (s *Server) alterTopic(ctx context.Context, find *finder, c *configChange, validateOnly bool) error {
	topic, err := find.named(ctx, c.name)
	if err != nil {
		return err
	}
	settings, err := c.settings(topic.Config)
	if err != nil {
		return err
	}
	if _, err := topic.Config.With(settings); err != nil {
		return ingest.Errorf(ingest.ReasonInvalidConfig, "alter topic %s: %w", c.name, err)
	}
	if validateOnly || len(settings) == 0 {
		return nil
	}
	_, err = s.Cluster.UpdateTopic(ctx, c.name, settings)
	return err
}

// settings are what a change sets, in the words of package meta.
func (c *configChange) settings(now meta.TopicConfig) (map[string]string, error) {
	out := make(map[string]string)
	if c.all {
		for _, s := range settingsOf(now) {
			s.reset(out)
		}
	}
	edits, again := once(c.edits, func(e configEdit) string { return e.name })
	for _, e := range edits {
		s, err := findSetting(e.name)
		switch {
		case err != nil:
			return nil, err
		case again[e.name]:
			return nil, refuse(kerr.InvalidRequest, "topic setting %s is named more than once", e.name)
		}
		switch e.op {
		case kmsg.IncrementalAlterConfigOpSet:
			if e.value == nil {
				return nil, refuse(kerr.InvalidRequest, "topic setting %s has no value", e.name)
			}
			if err := s.set(*e.value, out); err != nil {
				return nil, err
			}
		case kmsg.IncrementalAlterConfigOpDelete:
			s.reset(out)
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			return nil, ingest.Errorf(ingest.ReasonInvalidConfig, "topic setting %s is no list to add to or to take from: set it, or delete it for its default", e.name)
		default:
			return nil, refuse(kerr.InvalidRequest, "topic setting %s: there is no operation %d", e.name, e.op)
		}
	}
	return out, nil
}
