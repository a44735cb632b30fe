package killtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proof/history"
)

// outcome is what came of a row that was as it should be.
type outcome struct {
	hit      string        // on which occasion, and for which time, the point was met
	after    time.Duration // from the moment when it counted
	before   int           // records acknowledged when the node died
	found    int           // records in the log at the end
	recovery time.Duration // until every partition acknowledged again: from the start of the node, or its death when others went on
	seen     history.Seen
}

// story is a row being played. Most have one node. Its steps fail the test where they cannot go on.
type story struct {
	row

	t     *testing.T
	ctx   context.Context
	dir   string
	nodes []*node
	load  *load
	// armed is the file that makes points count.
	armed string
	out   outcome
	from  time.Time // of the recovery
}

// play plays a row and checks it. What it says by t, it says with the end of what the nodes printed.
func play(ctx context.Context, t *testing.T, r row, tidemark, etcd string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, rowPatience)
	defer cancel()
	s := &story{row: r, t: t, ctx: ctx, dir: t.TempDir()}
	s.armed = filepath.Join(s.dir, "armed")
	nodes := 1
	if r.is("release-") || r.is("assign-") && !r.later {
		nodes = 2
	}
	var servers []string
	for i := range nodes {
		n := &node{id: "n" + strconv.Itoa(i+1), address: fixedAddress(t)}
		n.process = process{name: n.id, path: tidemark, logName: filepath.Join(s.dir, n.id+".log"), args: []string{
			"serve", "--roles", "ingest", "--data-dir", filepath.Join(s.dir, n.id), "--node-id", n.id, "--http", n.address, "--kafka", "off",
			"--cluster", strings.ReplaceAll(r.name(), "/", "-"), "--etcd", etcd, "--store", "file://" + filepath.Join(s.dir, "store"),
			"--flush-interval", "3ms",
		}}
		s.nodes = append(s.nodes, n)
		servers = append(servers, n.url())
	}
	t.Cleanup(func() {
		for _, n := range s.nodes {
			if t.Failed() {
				t.Logf("the end of what %s printed:\n%s", n.id, n.tail())
			}
			n.kill()
		}
	})
	s.load = newLoad(ctx, t, strings.Join(servers, ","))
	switch {
	case r.is("start-"):
		s.dieAtStart()
	case r.is("release-"):
		s.dieLettingGo()
	case r.is("assign-") && r.later:
		s.dieAssigningNew()
	case r.is("assign-"):
		s.dieMoving()
	default:
		s.dieUnderLoad()
	}
	return s.finish()
}

// must ends the row when a step failed.
func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// begin starts a node that dies at the row's point, once the points are armed.
func (s *story) begin(n *node) {
	s.t.Helper()
	s.must(n.start(s.ctx, fmt.Sprintf("TIDEMARK_FAILPOINT=%s:%d:%v", s.point, s.nth(), s.linger()), "TIDEMARK_FAILPOINT_ARMED="+s.armed))
}

// again starts a node that dies nowhere.
func (s *story) again(n *node) {
	s.t.Helper()
	s.from = clock.System().Now()
	s.must(n.start(s.ctx))
}

// before is how many records every partition has acknowledged when points begin to count.
const before = 10

// produce makes the topics and begins to produce, and returns when every partition has acknowledged some.
func (s *story) produce() {
	s.t.Helper()
	partitions := int32(2 * len(s.nodes))
	s.load.addTopic("main", s.durability, partitions)
	if s.mixed() {
		s.load.addTopic("beside", map[string]string{"object": "disk", "disk": "object"}[s.durability], 1)
	}
	s.load.start()
	if s.grouped() {
		s.load.startMember(memberProcess)
	}
	s.must(s.load.goesOn(progress{}, before, s.grouped()))
}

// grouped tells whether a consumer group reads and commits.
func (s *story) grouped() bool { return s.is("group-") }

// arm makes points count from now on.
func (s *story) arm() time.Time {
	s.t.Helper()
	s.must(os.WriteFile(s.armed, nil, 0o600))
	return clock.System().Now()
}

// dies waits for the death of a node at the point.
func (s *story) dies(n *node, since time.Time, occasion string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, meetPatience)
	defer cancel()
	s.must(n.diesAt(ctx, s.point, s.nth()))
	s.from = clock.System().Now()
	s.out.after, s.out.before = s.from.Sub(since), s.load.progress().records()
	s.out.hit = occasion
}

// dieUnderLoad: the only node dies while it takes records, and starts again. A group is asked what it has committed before anybody
// commits again, which would hide what was lost.
func (s *story) dieUnderLoad() {
	n := s.nodes[0]
	s.begin(n)
	s.must(n.ready(s.ctx))
	s.produce()
	s.dies(n, s.arm(), strconv.FormatInt(s.nth(), 10)+" under load")
	if !s.grouped() {
		s.again(n)
		return
	}
	s.load.endMember()
	s.again(n)
	s.must(n.ready(s.ctx))
	s.must(s.load.readCommitted())
	s.load.startMember(memberProcess + 1)
}

// dieAtStart: the node is killed under load, and dies again, or twice, while it starts.
func (s *story) dieAtStart() {
	n := s.nodes[0]
	s.must(n.start(s.ctx))
	s.must(n.ready(s.ctx))
	s.produce()
	n.kill()
	occasion := "1 start"
	if s.later {
		s.begin(n)
		s.dies(n, s.arm(), "")
		occasion = "2 starts"
	}
	s.begin(n)
	s.dies(n, s.arm(), occasion)
	s.again(n)
}

// pair starts two nodes, of which the first controls, and has both lead.
func (s *story) pair(victim *node) {
	for _, n := range s.nodes {
		if n == victim {
			s.begin(n)
		} else {
			s.must(n.start(s.ctx))
		}
		s.must(n.ready(s.ctx))
	}
	s.produce()
	s.must(until(s.ctx, "both nodes lead", func() error {
		leaders, err := s.load.client.ListLeaders(s.ctx)
		if err != nil {
			return err
		}
		led := make(map[string]int)
		for _, l := range leaders {
			led[l.GetNode()]++
		}
		if led[s.nodes[0].id] == 0 || led[s.nodes[1].id] == 0 {
			return fmt.Errorf("partitions are led by %v", led)
		}
		return nil
	}))
}

// drain marks a node as one to be emptied, by way of another or of itself.
func (s *story) drain(n, by *node) {
	s.t.Helper()
	c, err := client.New(client.Config{Server: by.url(), DisableDirect: true})
	s.must(err)
	defer c.Close()
	s.must(until(s.ctx, "the drain is begun", func() error {
		_, err := c.DrainNode(s.ctx, n.id, false)
		return err
	}))
}

// dieLettingGo: one of two nodes dies while it lets its partitions go, because it is drained or because it stops. On object the other
// goes on alone. On disk the one that died has what nobody else has, and comes back at once; when it was the one that controls,
// nobody moves its partitions then, and it must know that it does not lead what it has let go.
func (s *story) dieLettingGo() {
	other, victim, occasion := s.nodes[0], s.nodes[1], "1 drained"
	switch {
	case s.later && s.durability == "disk":
		other, victim, occasion = victim, other, "1 drained controller"
	case s.later:
		occasion = "1 stopping"
	}
	s.pair(victim)
	since := s.arm()
	if occasion == "1 stopping" {
		s.must(victim.cmd.Process.Signal(syscall.SIGTERM))
	} else {
		s.drain(victim, other)
	}
	s.dies(victim, since, occasion)
	if s.durability == "disk" {
		s.again(victim)
	}
}

// dieMoving: the first node, which controls, dies while it gives the partitions of the second, which is drained, to itself. On object the
// second has to take everything; on disk the first comes back.
func (s *story) dieMoving() {
	first, second := s.nodes[0], s.nodes[1]
	s.pair(first)
	since := s.arm()
	s.drain(second, second)
	s.dies(first, since, "1 moving")
	if s.durability == "disk" {
		s.again(first)
	}
}

// dieAssigningNew: the only node dies while it assigns the partitions of a new topic.
func (s *story) dieAssigningNew() {
	n := s.nodes[0]
	s.begin(n)
	s.must(n.ready(s.ctx))
	since := s.arm()
	made := make(chan struct{})
	go func() {
		defer close(made)
		// Whether it is made before the node dies or by produce makes no difference.
		_, _, _ = s.load.client.CreateTopic(s.ctx, "main", 2, map[string]string{"durability": s.durability}, true)
	}()
	s.dies(n, since, "1 new topic")
	s.again(n)
	<-made
	s.produce()
}

// finish waits until the log goes on, ends the load, and reads and checks everything.
func (s *story) finish() outcome {
	s.t.Helper()
	l := s.load
	s.must(l.goesOn(l.progress(), 1, s.grouped()))
	s.out.recovery = clock.System().Now().Sub(s.from)
	s.must(l.stop())
	sources := 0
	for _, n := range s.nodes {
		if !n.running() {
			continue
		}
		sources++
		s.must(n.ready(s.ctx))
		s.must(l.readThrough(n))
	}
	if s.grouped() {
		s.must(l.readCommitted())
	}
	tails := []int32{}
	for i := range l.topics {
		tails = append(tails, firstTailProcess+int32(i))
	}
	report := l.history.Check(history.Options{MustSee: [][]int32{tails}})
	s.out.seen, s.out.found = report.Seen, report.Seen.Final/sources
	if bad := report.Bad(); len(bad) > 0 {
		var text strings.Builder
		_ = report.Write(&text) // into a strings.Builder
		s.t.Errorf("after %s died at %s: %v\n%s", s.durability, s.point, bad, text.String())
	}
	seen := report.Seen
	if seen.Acked == 0 || seen.Polled == 0 || s.out.found < seen.Acked || s.grouped() && (seen.Commits == 0 || seen.Fetches == 0) {
		s.t.Errorf("too little was seen to say that all is well: %+v", seen)
	}
	return s.out
}
