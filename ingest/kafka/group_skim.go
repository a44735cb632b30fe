package kafka

import "fmt"

// What group requests may name is counted before anything is made of them; see produce_skim.go. The order of fields is that of Kafka's protocol guide.

// Limits of one request about groups.
const (
	maxNamedGroups  = 10_000
	maxNamedMembers = 10_000
	// maxNamedPartitions is as many as a group may read.
	maxNamedPartitions = 50_000
	maxNamedProtocols  = 1_000
	maxGroupTags       = 10_000
)

// listed counts elements of one sort over a whole request.
type listed struct {
	what    string
	n, most int
}

// add counts more of them, and says how many a reader may go through: none when there are too many.
func (l *listed) add(n int) int {
	if l.n += n; l.n > l.most {
		return 0
	}
	return n
}

// outcome says what is wrong with a body that was walked through.
func (s *skimmer) outcome(lists ...listed) error {
	for _, l := range lists {
		if l.n > l.most {
			return fmt.Errorf("it names %d %s or more; %d are the most", l.n, l.what, l.most)
		}
	}
	switch {
	case s.fewTags:
		return errTags
	case s.cutOff:
		return errCutOff
	case s.tagged > maxGroupTags:
		return fmt.Errorf("it has %d tags; %d are the most", s.tagged, maxGroupTags)
	}
	return nil
}

func skimJoinGroup(body []byte, version int16) error {
	s := skimmer{rest: body, flexible: version >= 6}
	s.text(false) // group
	s.skip(4)     // session timeout
	if version >= 1 {
		s.skip(4) // rebalance timeout
	}
	s.text(false) // member
	if version >= 5 {
		s.text(true) // instance
	}
	s.text(false) // protocol type
	return s.named(listed{what: "protocols", most: maxNamedProtocols})
}

func skimSyncGroup(body []byte, version int16) error {
	s := skimmer{rest: body, flexible: version >= 4}
	s.text(false) // group
	s.skip(4)     // generation
	s.text(false) // member
	if version >= 3 {
		s.text(true) // instance
	}
	if version >= 5 {
		s.text(true) // protocol type
		s.text(true) // protocol
	}
	return s.named(listed{what: "members", most: maxNamedMembers})
}

func skimOffsetCommit(body []byte, version int16) error {
	s := skimmer{rest: body, flexible: version >= 8}
	s.text(false) // group
	s.skip(4)     // generation
	s.text(false) // member
	if version >= 7 {
		s.text(true) // instance
	}
	if version <= 4 {
		s.skip(8) // retention
	}
	topics, partitions := listed{what: "topics", most: maxNamedTopics}, listed{what: "partitions", most: maxNamedPartitions}
	for range topics.add(s.count()) {
		s.topic(version >= topicsByID)
		for range partitions.add(s.count()) {
			s.skip(4 + 8) // partition and offset
			if version >= 6 {
				s.skip(4) // leader epoch
			}
			s.text(true) // metadata
			s.tags()
		}
		s.tags()
	}
	return s.outcome(topics, partitions)
}

func skimOffsetFetch(body []byte, version int16) error {
	s := skimmer{rest: body, flexible: version >= 6}
	groups := listed{what: "groups", most: maxNamedGroups}
	topics, partitions := listed{what: "topics", most: maxNamedTopics}, listed{what: "partitions", most: maxNamedPartitions}
	n := 1
	if version >= 8 {
		n = groups.add(s.count())
	}
	for range n {
		s.text(false) // group
		if version >= 9 {
			s.text(true) // member
			s.skip(4)    // epoch
		}
		for range topics.add(s.count()) {
			s.topic(version >= topicsByID)
			for range partitions.add(s.count()) {
				s.skip(4)
			}
			s.tags()
		}
		if version >= 8 {
			s.tags()
		}
	}
	return s.outcome(groups, topics, partitions)
}

func skimConsumerGroupHeartbeat(body []byte, version int16) error {
	s := skimmer{rest: body, flexible: true}
	s.text(false) // group
	s.text(false) // member
	s.skip(4)     // epoch
	s.text(true)  // instance
	s.text(true)  // rack
	s.skip(4)     // rebalance timeout
	names := listed{what: "topics", most: maxNamedTopics}
	for range names.add(s.count()) {
		s.text(false)
	}
	if version >= 1 {
		s.text(true) // pattern
	}
	s.text(true) // assignor
	topics, partitions := listed{what: "topics", most: maxNamedTopics}, listed{what: "partitions", most: maxNamedPartitions}
	for range topics.add(s.count()) {
		s.topic(true)
		for range partitions.add(s.count()) {
			s.skip(4)
		}
		s.tags()
	}
	return s.outcome(names, topics, partitions)
}

// named walks through a list of names with bytes of each, the last thing that is looked at in a body, and says what is wrong with the body.
func (s *skimmer) named(l listed) error {
	for range l.add(s.count()) {
		s.text(false)
		s.blob()
		s.tags()
	}
	return s.outcome(l)
}

// topic skips what names a topic.
func (s *skimmer) topic(byID bool) {
	if byID {
		s.skip(16)
	} else {
		s.text(false)
	}
}
