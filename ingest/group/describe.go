package group

import (
	"cmp"
	"slices"
)

// Description is a group as it is now, for people and tools.
type Description struct {
	Name  string
	State State
	// ProtocolType is empty for subscribed members, and Protocol is their strategy then.
	ProtocolType, Protocol string
	// Generation is the last one that members could hear of.
	Generation int32
	Leader     string
	// Withheld: partitions wait until who has them gives them up.
	Withheld bool
	// Members are sorted by id.
	Members []DescribedMember
}

// DescribedMember is one member.
type DescribedMember struct {
	ID, InstanceID, ClientID, Host string
	// Metadata for the protocol of the group, and Assignment as its leader sent it: protocol members.
	Metadata, Assignment []byte
	// Topics it subscribed to, Assigned of the last generation, and Target: what it gets when nothing is withheld any more.
	// Subscribed members.
	Topics           []string
	Assigned, Target []TopicPartition
	// Joining: its join waits.
	Joining bool
}

// Describe is the group as it is now. What it points to is not changed later, and must only be read.
func (g *Group) Describe() Description {
	d := Description{
		Name: g.name, State: g.state, ProtocolType: g.protocolType, Protocol: g.protocol,
		Generation: g.told, Leader: g.leader, Withheld: g.withheld,
		Members: make([]DescribedMember, 0, len(g.members)),
	}
	for _, m := range g.members {
		d.Members = append(d.Members, DescribedMember{
			ID: m.id, InstanceID: m.instance, ClientID: m.clientID, Host: m.host,
			Metadata: m.metadata(g.protocol), Assignment: m.assignment,
			Topics: m.topics, Assigned: m.assigned, Target: m.target, Joining: m.joining.open,
		})
	}
	slices.SortFunc(d.Members, func(a, b DescribedMember) int { return cmp.Compare(a.ID, b.ID) })
	return d
}

// Subscribed are the topics, sorted, to which members are subscribed: by name, or by the metadata that consumers have for the protocol of the
// group. False: what the members read cannot be told from here.
func (g *Group) Subscribed() (topics []string, known bool) {
	if g.takenOver() { // members of the coordinator before may be on their way
		return nil, false
	}
	if g.kind != protocolKind {
		return g.Topics(), true
	}
	if g.protocolType != "consumer" {
		return nil, false
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			of, ok := consumerTopics(p.Metadata)
			if !ok {
				return nil, false
			}
			topics = append(topics, of...)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics), true
}

// Topics are the topics to which somebody subscribed, sorted: those whose PartitionsChanged matter.
func (g *Group) Topics() []string {
	topics := make([]string, 0, len(g.topics))
	for name := range g.topics {
		topics = append(topics, name)
	}
	slices.Sort(topics)
	return topics
}
