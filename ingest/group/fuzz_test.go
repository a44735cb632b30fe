package group

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// FuzzEvents feeds events that follow no rule, from members that know nothing of each other. After each the group keeps its
// invariants; and when nothing more happens but time and the store, every call is answered in the end.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 13, 0, 0, 1, 0, 0, 13, 0, 0, 0, 0})
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	f.Add([]byte(strings.Repeat("\x00\x01\x02\x03\x0d\x04\x05\x06\x0d\x07\x08\x0c", 20)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 4096 {
			playAnything(data, t.Fatalf)
		}
	})
}

// TestAnyEvents is FuzzEvents with what rapid draws.
func TestAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		playAnything(rapid.SliceOfN(rapid.Byte(), 300, 1500).Draw(t, "events"), t.Fatalf)
	})
}

func playAnything(data []byte, fail func(string, ...any)) {
	in := &script{data: data}
	c := newChecked(Restored{Generation: int32(in.under(3)), Members: in.under(3)}, Limits{
		MaxMembers: 4, MaxMemberBytes: 40, MaxGroupBytes: 80, MaxTopics: 3, MaxPartitions: 20,
		InitialDelay: time.Duration(in.under(2)) * time.Second,
	}, fail)
	for len(in.data) > 0 {
		in.happen(c)
	}
	// Everyone is silent from here on.
	for range 1000 {
		if c.storing != 0 {
			c.step(Stored{Generation: c.storing})
			continue
		}
		if c.wake.IsZero() {
			break
		}
		c.until(c.wake, func(Effects) {})
	}
	if len(c.open) > 0 || len(c.members) > 0 || len(c.pending) > 0 || c.State() != Empty && c.State() != Dead {
		fail("%d calls wait for ever: %+v", len(c.open), c.Describe())
	}
}

// script draws from the fuzzer's bytes; when they are used up, everything is 0.
type script struct{ data []byte }

func (s *script) under(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

func (s *script) pick(from ...string) string { return from[s.under(len(from))] }

func (s *script) id() string {
	return s.pick("", "a", "b", "c", "d", "e", "f", strings.Repeat("x", 256))
}

func (s *script) instance() string { return s.pick("", "", "", "one", "two") }

func (s *script) generation(g *Group) int32 {
	return [...]int32{g.told, g.told, g.told, g.generation, g.told - 1, g.told + 1, -1, math.MaxInt32}[s.under(8)]
}

func (s *script) happen(c *checked) {
	switch s.under(14) {
	case 0, 1, 2, 3:
		c.step(s.join(c))
	case 4, 5:
		c.step(Sync{
			Token: c.call(), MemberID: s.id(), InstanceID: s.instance(), Generation: s.generation(c.Group), ProtocolName: s.pick("", "", "p", "q"),
			Assignments: map[string][]byte{s.id(): make([]byte, s.under(50)), s.id(): make([]byte, s.under(50))},
		})
	case 6:
		c.step(Heartbeat{
			Token: c.call(), MemberID: s.id(), InstanceID: s.instance(), Generation: s.generation(c.Group), Acknowledged: s.under(2) == 0,
		})
	case 7:
		c.step(Leave{Token: c.call(), Members: make([]LeavingMember, s.under(6))})
		c.step(Leave{Token: c.call(), Members: []LeavingMember{{s.id(), s.instance()}, {s.id(), s.instance()}}})
	case 8:
		switch s.under(24) {
		case 0, 1, 2:
			c.step(Delete{Token: c.call()})
		case 3:
			c.step(Resign{})
		case 4:
			c.step(StoreFailed{Generation: c.storing})
		}
	case 9:
		c.now = c.now.Add(time.Duration(s.under(40)-2) * time.Second) // also backwards
		c.step(Tick{})
	case 10:
		c.step(PartitionsChanged{Partitions: map[string]int32{s.pick("t", "u", "v"): int32(s.under(10) - 1)}})
	case 11:
		c.step(Cancel{Token: Token(s.under(100))})
	case 12, 13:
		c.step(Stored{Generation: c.storing - int32(s.under(5)/4)})
	}
	id := s.id()
	if err := c.CheckCommit(c.now, id, "", c.told); err == nil && (c.members[id] == nil || c.told != c.Group.told) {
		c.fail("a commit of %q in generation %d is taken", id, c.told)
	}
}

func (s *script) join(c *checked) Join {
	e := Join{
		Token: c.call(), MemberID: s.id(), InstanceID: s.instance(), NewMemberID: s.id(), ClientID: s.id(), Host: s.id(),
		SessionTimeout: time.Duration(s.under(30)) * time.Second, RebalanceTimeout: time.Duration(s.under(60)-1) * time.Second,
		RequireKnownMemberID: s.under(3) == 0, SkipAssignment: s.under(2) == 0,
	}
	if s.under(4) == 0 {
		e.ProtocolType = s.pick("consumer", "consumer", "connect", "")
		for range s.under(3) {
			e.Protocols = append(e.Protocols, Protocol{Name: s.pick("p", "q", ""), Metadata: make([]byte, s.under(50))})
		}
		return e
	}
	e.Subscription = &Subscription{
		Strategy:   Strategy(s.pick("", "", "", "", string(CooperativeSticky), string(Range), string(RoundRobin), "other")),
		Partitions: map[string]int32{s.pick("t", "u", "v"): int32(s.under(10) - 1)},
	}
	for range s.under(5) {
		e.Subscription.Topics = append(e.Subscription.Topics, s.pick("t", "u", "v", "t", "u", "v", ""))
	}
	for range s.under(4) {
		e.Subscription.Owned = append(e.Subscription.Owned, TopicPartition{s.pick("t", "u", "v"), int32(s.under(8) - 1)})
	}
	return e
}

// FuzzConsumerTopics: metadata of any shape are compared without a panic, and what is equal is the same.
func FuzzConsumerTopics(f *testing.F) {
	f.Add(consumerMetadata(1, "t", "u"), consumerMetadata(3, "u", "t"))
	f.Add([]byte{0, 0, 0x7f, 0xff, 0xff, 0xff}, []byte{0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if !sameTopics("consumer", a, a) || sameTopics("consumer", a, b) != sameTopics("consumer", b, a) {
			t.Error("not an equality")
		}
	})
}

func consumerMetadata(version int16, topics ...string) []byte {
	metadata := binary.BigEndian.AppendUint16(nil, uint16(version))
	metadata = binary.BigEndian.AppendUint32(metadata, uint32(len(topics)))
	for _, topic := range topics {
		metadata = binary.BigEndian.AppendUint16(metadata, uint16(len(topic)))
		metadata = append(metadata, topic...)
	}
	return metadata
}

func TestSameTopics(t *testing.T) {
	a := append(consumerMetadata(1, "t", "u"), "owned then"...)
	for _, c := range []struct {
		kind string
		b    []byte
		want bool
	}{
		{"consumer", append(consumerMetadata(3, "u", "t"), "owned now"...), true},
		{"consumer", consumerMetadata(1, "t"), false},
		{"consumer", consumerMetadata(1, "t", "u", "v"), false},
		{"consumer", consumerMetadata(1, "t", "u")[:8], false},
		{"consumer", nil, false},
		{"connect", append(consumerMetadata(3, "u", "t"), "owned now"...), false},
		{"connect", a, true},
	} {
		if got := sameTopics(c.kind, a, c.b); got != c.want {
			t.Errorf("%s %q: %v", c.kind, c.b, got)
		}
	}
}

func TestNamesForPeopleAreCut(t *testing.T) {
	for _, c := range [][2]string{
		{"short", "short"},
		{strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{strings.Repeat("a", 256), strings.Repeat("a", 255)},
		{strings.Repeat("a", 254) + "é", strings.Repeat("a", 254)},
		{strings.Repeat("\x80", 300), ""},
	} {
		if got := cut(c[0]); got != c[1] {
			t.Errorf("%d bytes become %d", len(c[0]), len(got))
		}
	}
}

// TestGenerationsEnd: nothing wraps around.
func TestGenerationsEnd(t *testing.T) {
	c := newChecked(Restored{Generation: math.MaxInt32}, Limits{}, t.Fatalf)
	out := c.step(Join{Token: c.call(), NewMemberID: "a", SessionTimeout: time.Second, ProtocolType: "x", Protocols: []Protocol{{Name: "p"}}})
	if len(out.Replies) != 1 || CodeOf(out.Replies[0].Err) != ErrNotCoordinator || c.State() != Dead {
		t.Errorf("%+v, %v", out, c.State())
	}
}

// TestTheMachineKeepsCopies: who reuses the bytes of an event changes nothing.
func TestTheMachineKeepsCopies(t *testing.T) {
	c := newChecked(Restored{}, Limits{}, t.Fatalf)
	metadata, assignment := []byte("mine"), []byte("yours")
	e := Join{
		Token: c.call(), NewMemberID: "a", SessionTimeout: time.Second, ProtocolType: "x", Protocols: []Protocol{{Name: "p", Metadata: metadata}},
	}
	c.step(e)
	c.step(Stored{Generation: 1})
	c.step(Sync{Token: c.call(), MemberID: "a", Generation: 1, Assignments: map[string][]byte{"a": assignment}})
	copy(metadata, "xxxx")
	copy(assignment, "xxxxx")
	e.Protocols[0].Name = "q"
	if m := c.Describe().Members[0]; string(m.Metadata) != "mine" || string(m.Assignment) != "yours" {
		t.Errorf("%s, %s", m.Metadata, m.Assignment)
	}
}
