package kafka

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// No pattern is compiled that would be large, however short it is written; the sizes of others are no less than they are.
func TestPatternsAreSmall(t *testing.T) {
	for _, text := range []string{
		"(?:.?){999}", strings.Repeat("(?:.?){999}", 90), "((a{10}){10}){10}", "(?:ab){300}", "a{501}", strings.Repeat("a", 501), "(a|b){2,400}", "a{400,}b{200}",
		strings.Repeat(`\pL`, 20), "(((x{0,9}){0,9}){0,9}){0,1}", "orders-[", strings.Repeat("a", maxPatternBytes+1),
	} {
		if _, err := readPattern(text); !errors.Is(err, kerr.InvalidRegularExpression) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
	for _, text := range []string{
		"orders-[0-9]+", ".*", "(?i)orders", `\w+\.\d{1,9}`, "a|bc|def", "(a|b|)*c?d+", "x{3}", "x{0}", "x{3,}y{0,}z{2,5}", `[\pL\d]+`, "^a$", "(?:a?){50}", `(?s).\b.`,
		strings.Repeat("a", 250), "(((x{0,3}){0,3}){0,3})", "(?:)", "[a-z&&[^b]]*", "ſ(?i)k",
	} {
		p, err := readPattern(text)
		if err != nil {
			t.Errorf("%.30q: %v", text, err)
			continue
		}
		parsed, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		if steps := len(program.Inst) - 2; steps > stepsOf(parsed) { // the first fails, and the last matches
			t.Errorf("%.30q has %d steps, %d are counted", text, steps, stepsOf(parsed))
		}
		if p.bytes < int64(len(program.Inst)*stepBytes) {
			t.Errorf("%.30q counts as %d bytes", text, p.bytes)
		}
	}
}

// Members that want the same pattern have one, whose matches are looked for once for all of them, and it goes with the last of them. Nobody who is no member
// has one compiled.
func TestAPatternIsShared(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders-1", 2)
	n := w.nodes[0]
	s := n.server.subscribers
	counted := func() (patterns int, bytes int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.patterns), s.bytes
	}
	var members []*consumer
	for _, id := range []string{"a", "b"} {
		c := w.consumer(n, "readers", id, topic)
		c.q.SubscribedTopicNames, c.q.SubscribedTopicRegex = nil, new("orders-[0-9]+")
		w.must(c.beat())
		members = append(members, c)
	}
	a, b := s.find("readers", "a"), s.find("readers", "b")
	a.mu.Lock()
	shared := a.wants.pattern
	a.mu.Unlock()
	b.mu.Lock()
	if b.wants.pattern != shared {
		t.Error("each member has a pattern of its own")
	}
	b.mu.Unlock()
	if patterns, bytes := counted(); patterns != 1 || bytes < 2*shared.bytes {
		t.Errorf("%d patterns, %d bytes", patterns, bytes)
	}
	// While somebody matches slowly, members that wait for it are heard all the same.
	s.matching <- struct{}{}
	members[0].q.SubscribedTopicRegex = new("orders-.*")
	w.must(members[0].beat())
	w.must(members[0].beat())
	if patterns, _ := counted(); patterns != 2 {
		t.Errorf("%d patterns", patterns)
	}
	<-s.matching
	stranger := w.consumer(n, "readers", "stranger", topic)
	stranger.q.SubscribedTopicRegex, stranger.q.MemberEpoch = new("orders-["), 5
	if err := stranger.beat(); !errors.Is(err, kerr.UnknownMemberID) {
		t.Errorf("nobody: %v", err)
	}
	for _, c := range members {
		c.unchanged()
		c.q.MemberEpoch = epochLeaves
		w.must(c.beat())
	}
	if patterns, bytes := counted(); patterns != 0 || bytes != 0 {
		t.Errorf("%d patterns and %d bytes are left", patterns, bytes)
	}
}

// There are so many patterns, and no more; those that are there can still be wanted.
func TestTooManyPatterns(t *testing.T) {
	s := newSubscribers(&Server{})
	member := func(id string) *subscriber {
		m := &subscriber{owner: s, group: "readers", id: id}
		s.members[memberKey{m.group, m.id}] = m
		return m
	}
	take := func(m *subscriber, text string) bool {
		p, err := s.pattern(text)
		if err != nil {
			t.Fatal(err)
		}
		_, taken := s.weigh(m, 1, p)
		return taken
	}
	for i := range maxPatterns {
		if !take(member(fmt.Sprint(i)), fmt.Sprint("orders-", i)) {
			t.Fatalf("pattern %d is refused", i)
		}
	}
	late := member("late")
	if take(late, "payments") || !take(late, "orders-7") || take(late, "payments") {
		t.Error("the cap is another")
	}
	s.forget(late)
	first := s.find("readers", "0")
	if take(first, "payments") {
		t.Error("one takes a pattern's place before it has given it back") // no matter: it asks again
	}
	s.forget(first)
	if !take(member("new"), "payments") {
		t.Error("a place that is free again is not given out")
	}
}
