package group

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

var rewrite = flag.Bool("rewrite", false, "write what the stories in testdata lead to")

// TestStories plays testdata/*.story: a line is something that happens, the indented lines below are what comes of it.
//
//	limits members=3 …      before anything else: the Limits and what was restored
//	join a topics=t,u       a joins with what it knows of its id; everything else stays as in its last join.
//	                        owned=… is what it claims, by default what it was assigned (nothing for eager strategies)
//	sync a assign=b:x,a:y   beat a, beat a ack, commit a, commit -, leave a b: with a's id and last generation, or gen=7
//	stored, storefailed     the store that was asked for
//	wait 5s                 time passes, with every tick; sleep 5s: the ticks do not come
//	forget a                the process of a starts anew: it knows nothing
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.story")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".story"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the story goes otherwise; run with -rewrite and read the difference.\n%s", firstDifference(string(got), string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d:\n got %s\nwant %s", i+1, a[i], b[i])
		}
	}
	return "one ends earlier"
}

// actor is a process of the story.
type actor struct {
	id         string
	generation int32
	last       Join
	assigned   []TopicPartition
}

type stage struct {
	t *testing.T
	*checked
	actors  map[string]*actor
	tokens  map[Token]string
	ids     int
	out     bytes.Buffer
	lastSay State
}

func play(t *testing.T, story string) []byte {
	t.Helper()
	s := &stage{t: t, actors: make(map[string]*actor), tokens: make(map[Token]string)}
	for line := range strings.Lines(story) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		fmt.Fprintln(&s.out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s.do(strings.Fields(line))
	}
	return s.out.Bytes()
}

func (s *stage) sayf(format string, args ...any) { fmt.Fprintf(&s.out, "  "+format+"\n", args...) }

func (s *stage) do(words []string) {
	options := make(map[string]string)
	var names []string
	for _, word := range words[1:] {
		if key, value, ok := strings.Cut(word, "="); ok {
			options[key] = value
		} else {
			names = append(names, word)
		}
	}
	if words[0] == "limits" {
		s.limits(options)
		return
	}
	if s.checked == nil {
		s.limits(nil)
	}
	name := ""
	if len(names) > 0 {
		name = names[0]
	}
	who := s.actors[name]
	if who == nil {
		who = &actor{last: Join{SessionTimeout: 10 * time.Second, RebalanceTimeout: 60 * time.Second}}
		s.actors[name] = who
	}
	generation := who.generation
	if text, ok := options["gen"]; ok {
		generation = int32(number(s.t, text))
	}
	instance := cmp.Or(options["instance"], who.last.InstanceID)
	id := cmp.Or(options["id"], who.id)
	token := func() Token {
		token := s.call()
		s.tokens[token] = name
		return token
	}
	switch words[0] {
	case "join":
		s.join(who, token(), options, slices.Contains(names, "require"), slices.Contains(names, "v9"))
	case "sync":
		e := Sync{Token: token(), MemberID: id, InstanceID: instance, Generation: generation, ProtocolName: options["protocol"], ProtocolType: options["type"]}
		if text := options["assign"]; text != "" {
			e.Assignments = make(map[string][]byte)
			for pair := range strings.SplitSeq(text, ",") {
				to, what, _ := strings.Cut(pair, ":")
				if known := s.actors[to]; known != nil {
					to = known.id
				}
				e.Assignments[to] = []byte(what)
			}
		}
		s.show(s.step(e))
	case "beat":
		s.show(s.step(Heartbeat{Token: token(), MemberID: id, InstanceID: instance, Generation: generation, Acknowledged: slices.Contains(names, "ack")}))
	case "commit":
		if name == "-" {
			id, generation = "", -1
		}
		if err := s.CheckCommit(s.now, id, instance, generation); err != nil {
			s.sayf("%s", CodeOf(err).String())
		} else {
			s.sayf("may commit")
		}
	case "leave":
		e := Leave{Token: token()}
		for _, name := range names {
			if process, ok := strings.CutPrefix(name, "instance:"); ok {
				e.Members = append(e.Members, LeavingMember{InstanceID: process})
				continue
			}
			e.Members = append(e.Members, LeavingMember{MemberID: cmp.Or(options["id"], s.actors[name].id), InstanceID: s.actors[name].last.InstanceID})
		}
		s.show(s.step(e))
	case "delete":
		s.show(s.step(Delete{Token: token()}))
	case "cancel":
		for token, of := range s.tokens {
			if of == name && s.open[token] {
				s.show(s.step(Cancel{Token: token}))
			}
		}
	case "stored":
		s.show(s.step(Stored{Generation: cmp.Or(int32(number(s.t, cmp.Or(options["gen"], "0"))), s.storing)}))
	case "storefailed":
		s.show(s.step(StoreFailed{Generation: s.storing}))
	case "resign":
		s.show(s.step(Resign{}))
	case "tick":
		s.show(s.step(Tick{}))
	case "wait":
		s.until(s.now.Add(span(s.t, name)), s.show)
	case "sleep":
		s.now = s.now.Add(span(s.t, name))
	case "partitions":
		s.show(s.step(PartitionsChanged{Partitions: counts(s.t, options)}))
	case "forget":
		delete(s.actors, name)
	case "wake":
		s.sayf("in %v", s.wake.Sub(s.now))
	case "describe":
		s.describe()
	default:
		s.t.Fatalf("the story says %q", words[0])
	}
	if s.State() != s.lastSay {
		s.lastSay = s.State()
		s.sayf("%v", s.lastSay)
	}
}

func (s *stage) limits(options map[string]string) {
	var l Limits
	var r Restored
	for key, value := range options {
		switch key {
		case "members":
			l.MaxMembers = number(s.t, value)
		case "memberbytes":
			l.MaxMemberBytes = number(s.t, value)
		case "groupbytes":
			l.MaxGroupBytes = number(s.t, value)
		case "topics":
			l.MaxTopics = number(s.t, value)
		case "partitions":
			l.MaxPartitions = number(s.t, value)
		case "protocols":
			l.MaxProtocols = number(s.t, value)
		case "delay":
			l.InitialDelay = span(s.t, value)
		case "restored":
			r.Generation = int32(number(s.t, value))
		case "expected":
			r.Members = number(s.t, value)
		default:
			s.t.Fatalf("the story has a limit %q", key)
		}
	}
	s.checked = newChecked(r, l, func(format string, args ...any) {
		s.t.Helper()
		s.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), s.out.String())
	})
}

func (s *stage) join(who *actor, token Token, options map[string]string, require, v9 bool) {
	e := who.last
	s.ids++
	name := s.tokens[token]
	e.Token, e.MemberID, e.NewMemberID = token, who.id, fmt.Sprintf("%s%d", name, s.ids)
	e.RequireKnownMemberID, e.SkipAssignment = require, v9
	e.ClientID, e.Host = "client-"+name, "host"
	if id, ok := options["newid"]; ok {
		e.NewMemberID = id
	}
	if id, ok := options["id"]; ok {
		e.MemberID = id
	}
	if instance, ok := options["instance"]; ok {
		e.InstanceID = instance
	}
	if text, ok := options["session"]; ok {
		e.SessionTimeout = span(s.t, text)
	}
	if text, ok := options["rebalance"]; ok {
		e.RebalanceTimeout = span(s.t, text)
	}
	if text, ok := options["protocols"]; ok { // name:metadata,…
		e.ProtocolType, e.Protocols, e.Subscription = cmp.Or(options["type"], "consumer"), nil, nil
		for pair := range strings.SplitSeq(text, ",") {
			protocol, metadata, _ := strings.Cut(pair, ":")
			e.Protocols = append(e.Protocols, Protocol{Name: protocol, Metadata: []byte(metadata)})
		}
	}
	if text, ok := options["topics"]; ok {
		e.ProtocolType, e.Protocols = "", nil
		e.Subscription = &Subscription{Topics: strings.Split(text, ",")}
	}
	if e.Subscription != nil {
		subscription := *e.Subscription
		if strategy, ok := options["strategy"]; ok {
			subscription.Strategy = Strategy(strategy)
		}
		subscription.Owned, subscription.Partitions = who.assigned, nil
		if subscription.Strategy != "" && subscription.Strategy.eager() {
			subscription.Owned = nil
		}
		if text, ok := options["owned"]; ok {
			subscription.Owned = list(s.t, text)
		}
		if text, ok := options["counts"]; ok {
			pairs := make(map[string]string)
			for pair := range strings.SplitSeq(text, ",") {
				topic, count, _ := strings.Cut(pair, ":")
				pairs[topic] = count
			}
			subscription.Partitions = counts(s.t, pairs)
		}
		e.Subscription = &subscription
	}
	who.last = e
	s.show(s.step(e))
}

func (s *stage) show(out Effects) {
	for _, r := range out.Replies {
		name := s.tokens[r.Token]
		who := s.actors[name]
		switch {
		case r.Err != nil:
			if r.Join != nil {
				who.id = r.Join.MemberID
				s.sayf("%s: %s %s", name, CodeOf(r.Err).String(), r.Join.MemberID)
				continue
			}
			note := ""
			if detail := r.Err.Error(); detail != CodeOf(r.Err).Error() && CodeOf(r.Err) != ErrIllegalGeneration {
				note = " (" + strings.TrimPrefix(detail, CodeOf(r.Err).Error()+": ") + ")"
			}
			s.sayf("%s: %s%s", name, CodeOf(r.Err).String(), note)
		case r.Join != nil:
			who.id, who.generation = r.Join.MemberID, r.Join.Generation
			s.sayf("%s: %s", name, s.place(who, r.Join))
		case r.Sync != nil:
			s.sayf("%s: synced %s %q", name, r.Sync.Protocol, r.Sync.Assignment)
		case r.Leave != nil:
			for _, left := range r.Leave.Members {
				what := "left"
				if left.Err != nil {
					what = CodeOf(left.Err).String()
				}
				s.sayf("%s: %s", cmp.Or(left.MemberID, left.InstanceID), what)
			}
		default:
			s.sayf("%s: ok", name)
		}
	}
	if out.Store != nil {
		s.sayf("store generation %d of %d, %s", out.Store.Generation, out.Store.Members, strings.Trim(out.Store.ProtocolType+"/"+out.Store.Protocol, "/"))
	}
}

func (s *stage) place(who *actor, r *JoinResult) string {
	text := fmt.Sprintf("is %s in generation %d", r.MemberID, r.Generation)
	if r.ProtocolType != "" {
		text += fmt.Sprintf(", %s, leader %s", r.Protocol, r.Leader)
		for _, m := range r.Members {
			text += fmt.Sprintf(" %s:%s", m.MemberID, m.Metadata)
		}
		if r.SkipAssignment {
			text += " skip"
		}
		return text
	}
	text += ", has " + spell(r.Assigned)
	if len(r.Revoked) > 0 {
		text += ", gives up " + spell(r.Revoked)
	}
	if r.Acknowledge {
		text += ", acknowledge"
	}
	if r.Withheld {
		text += ", withheld"
	}
	who.assigned = r.Assigned
	return text
}

func (s *stage) describe() {
	d := s.Describe()
	s.sayf("%s %v generation %d, %s", d.Name, d.State, d.Generation, strings.Trim(d.ProtocolType+"/"+d.Protocol, "/"))
	for _, m := range d.Members {
		text := m.ID
		if m.InstanceID != "" {
			text += " instance " + m.InstanceID
		}
		text += fmt.Sprintf(" (%s at %s)", m.ClientID, m.Host)
		if d.ProtocolType != "" {
			text += fmt.Sprintf(" wants %q has %q", m.Metadata, m.Assignment)
		} else {
			text += fmt.Sprintf(" wants %s has %s target %s", strings.Join(m.Topics, ","), spell(m.Assigned), spell(m.Target))
		}
		if m.Joining {
			text += " joining"
		}
		s.sayf("%s", text)
	}
}

// spell writes partitions as t:0-3,u:1; list reads them.
func spell(partitions []TopicPartition) string {
	if len(partitions) == 0 {
		return "nothing"
	}
	text := ""
	for i := 0; i < len(partitions); {
		p, end := partitions[i], i+1
		for end < len(partitions) && partitions[end].Topic == p.Topic && partitions[end].Partition == partitions[end-1].Partition+1 {
			end++
		}
		text += fmt.Sprintf(",%s:%d", p.Topic, p.Partition)
		if last := partitions[end-1].Partition; last > p.Partition {
			text += fmt.Sprintf("-%d", last)
		}
		i = end
	}
	return text[1:]
}

func list(t *testing.T, text string) []TopicPartition {
	t.Helper()
	var partitions []TopicPartition
	if text == "nothing" {
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		topic, numbers, _ := strings.Cut(item, ":")
		from, to, ok := strings.Cut(numbers, "-")
		if !ok {
			to = from
		}
		for n := number(t, from); n <= number(t, to); n++ {
			partitions = append(partitions, TopicPartition{topic, int32(n)})
		}
	}
	return partitions
}

func counts(t *testing.T, options map[string]string) map[string]int32 {
	t.Helper()
	partitions := make(map[string]int32)
	for _, topic := range slices.Sorted(maps.Keys(options)) {
		partitions[topic] = int32(number(t, options[topic]))
	}
	return partitions
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func span(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCodesAreKafkas compares numbers and names with those that a Kafka client knows.
func TestCodesAreKafkas(t *testing.T) {
	codes := []Error{
		ErrCoordinatorNotAvailable, ErrNotCoordinator, ErrIllegalGeneration, ErrInconsistentGroupProtocol, ErrUnknownMemberID,
		ErrInvalidSessionTimeout, ErrRebalanceInProgress, ErrInvalidRequest, ErrNonEmptyGroup, ErrMemberIDRequired,
		ErrGroupMaxSizeReached, ErrFencedInstanceID,
	}
	for _, code := range codes {
		if kafka := kerr.TypedErrorForCode(int16(code)); kafka == nil || kafka.Message != code.String() {
			t.Errorf("%d is %s here and %v there", code, code.String(), kafka)
		}
		if code.Error() == code.String() {
			t.Errorf("%s does not tell what to do", code.String())
		}
	}
}

func TestErrorsAreWrapped(t *testing.T) {
	err := fmt.Errorf("join group g: %w", fmt.Errorf("%w: too long", ErrInvalidRequest))
	if CodeOf(err) != ErrInvalidRequest || !errors.Is(err, ErrInvalidRequest) || CodeOf(errors.New("x")) != 0 || CodeOf(nil) != 0 {
		t.Error("the code of a wrapped error is not found")
	}
}
