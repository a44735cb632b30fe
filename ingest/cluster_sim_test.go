package ingest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/history"
)

// clusterStep is something that may happen. run tells whether it could.
type clusterStep struct {
	name   string
	weight int
	run    func(c *cluster) bool
	rude   bool // only while the adversary is awake
}

var clusterSteps = []clusterStep{
	{name: "produce", weight: 300, run: (*cluster).stepProduce},
	{name: "poll", weight: 170, run: (*cluster).stepPoll},
	{name: "query", weight: 6, run: (*cluster).stepQuery},
	{name: "give up", weight: 4, run: (*cluster).stepGiveUp, rude: true},
	{name: "write log", weight: 120, run: (*cluster).stepWriteLog},
	{name: "report written", weight: 120, run: (*cluster).stepReportWritten},
	{name: "sync", weight: 80, run: (*cluster).stepSync},
	{name: "report synced", weight: 80, run: (*cluster).stepReportSynced},
	{name: "trim", weight: 20, run: (*cluster).stepTrim},
	{name: "build", weight: 80, run: (*cluster).stepBuild},
	{name: "store", weight: 100, run: (*cluster).stepStore},
	{name: "apply", weight: 140, run: (*cluster).stepApply},
	{name: "answer", weight: 140, run: (*cluster).stepAnswer},
	{name: "lose answer", weight: 6, run: (*cluster).stepLoseAnswer, rude: true},
	{name: "lose new", weight: 40, run: (*cluster).stepLoseNew, rude: true},
	{name: "lose request", weight: 2, run: (*cluster).stepLoseRequest, rude: true},
	{name: "index", weight: 180, run: (*cluster).stepIndex},
	{name: "resync", weight: 1, run: (*cluster).stepResync, rude: true},
	{name: "place", weight: 60, run: (*cluster).stepPlace},
	{name: "time", weight: 150, run: (*cluster).stepTime},
	{name: "wake", weight: 150, run: (*cluster).stepWake},
	{name: "lease", weight: 60, run: (*cluster).stepLease},
	{name: "fold", weight: 12, run: (*cluster).stepFold},
	{name: "sweep", weight: 8, run: (*cluster).stepSweep},
	{name: "start", weight: 40, run: (*cluster).stepStart},
	{name: "stopped", weight: 20, run: (*cluster).stepStopped},
	{name: "repair", weight: 2, run: (*cluster).stepRepair},
	{name: "resume", weight: 2, run: (*cluster).stepResume},
	{name: "heal", weight: 3, run: (*cluster).stepHeal},
	{name: "forget", weight: 2, run: (*cluster).stepForget},
	{name: "alter", weight: 3, run: (*cluster).stepAlter},
	{name: "crash", weight: 2, run: (*cluster).stepCrash, rude: true},
	{name: "power again", weight: 40, run: (*cluster).stepPowerAgain, rude: true},
	{name: "grow", weight: 5, run: (*cluster).stepGrow, rude: true},
	{name: "lose disk", weight: 1, run: (*cluster).stepLoseDisk, rude: true},
	{name: "pause", weight: 1, run: (*cluster).stepPause, rude: true},
	{name: "cut", weight: 2, run: (*cluster).stepCut, rude: true},
	{name: "quorum", weight: 1, run: (*cluster).stepQuorum, rude: true},
	{name: "clock", weight: 1, run: (*cluster).stepClock, rude: true},
	{name: "stop", weight: 1, run: (*cluster).stepStop, rude: true},
	{name: "drain", weight: 1, run: (*cluster).stepDrain},
	{name: "delete topic", weight: 1, run: (*cluster).stepDeleteTopic, rude: true},
}

// A seed has its faults in a burst of steps between quiet stretches, as bad days come.
const (
	clusterSteps1 = 19_000 // steps a seed at least
	clusterLogic  = 5*time.Minute + 10*time.Second
)

// seededScope is the world of a seed: 3 to 7 nodes.
func seededScope(seed uint64) scope {
	return scope{
		nodes: 3 + int(seed%5), ttl: 6 * time.Second, tailBytes: 1500, tick: 280 * time.Millisecond,
		flush:     flushSettings{bytes: 2000, interval: 250 * time.Millisecond, idleInterval: 5 * time.Second, maxUploads: 3},
		admission: admissionLimits{unlogged: 6000, uncommitted: 16000, batches: 80, parked: 3000, delay: 2 * time.Second},
		topics: []scopeTopic{
			{partitions: 4, durability: meta.DurabilityObject, producers: 1, once: true},
			{partitions: 2, durability: meta.DurabilityDisk, producers: 1, once: true},
			{partitions: 1, durability: meta.DurabilityObject, producers: 1},
		},
	}
}

// seededCluster is one run of a seed. Each step draws from its own source, so that a step can be left out and the others stay what they are.
type seededCluster struct {
	*cluster

	seed   uint64
	source *rand.PCG
	random *rand.Rand
	wild   bool // faults happen in this stretch
}

func newSeededCluster(seed uint64, tracing bool) *seededCluster {
	s := &seededCluster{seed: seed, source: rand.NewPCG(seed, 0)}
	s.random = rand.New(s.source)
	s.cluster = newCluster(seededScope(seed), func(n int) int { return s.random.IntN(n) })
	s.tracing = tracing
	s.history = history.New()
	for _, t := range s.topics {
		for n := range t.Partitions {
			s.consumers = append(s.consumers, &clusterConsumer{c: s.cluster, number: len(s.consumers), id: meta.Partition{Topic: t.ID, Partition: n}})
		}
	}
	return s
}

// step does one thing, the number-th.
func (s *seededCluster) step(number uint64) {
	s.source.Seed(s.seed, number)
	if number%2000 == 0 {
		s.wild = s.random.IntN(4) > 0 // a quarter of the time is quiet
	}
	rude := s.wild && !s.calm
	total := 0
	for _, step := range clusterSteps {
		if rude || !step.rude {
			total += step.weight
		}
	}
	for range 12 { // most steps cannot happen at most times
		n := s.random.IntN(total)
		for _, step := range clusterSteps {
			if step.rude && !rude {
				continue
			}
			if n -= step.weight; n >= 0 {
				continue
			}
			if step.run(s.cluster) {
				s.after()
				return
			}
			break
		}
	}
	s.stepTime()
	s.after()
}

// rest heals everything and lets what is on its way arrive.
func (s *seededCluster) rest(from uint64) {
	s.calm = true
	s.notef("---- calm")
	for _, n := range s.nodes {
		n.paused, n.cutEtcd, n.cutStore, n.cutClients, n.diskFull, n.down = false, false, false, false, false, false
	}
	if s.etcd.down {
		s.etcd.down = false
		s.etcd.elect(s.now)
	}
	for n := range uint64(60_000) {
		s.step(from + n)
		if n%16 == 0 && s.atRest() {
			return
		}
	}
	for _, p := range s.producers {
		s.notef("%s", p)
	}
	for _, n := range s.nodes {
		a, _ := s.truth.Assignment(n.id)
		s.notef("%s: life %t, down %t, leads %d", n.id, n.life != nil, n.down, len(a.Epochs))
	}
	s.failf("the cluster does not come to rest: something waits for ever")
}

func (s *seededCluster) atRest() bool {
	if len(s.network) > 0 || len(s.puts) > 0 {
		return false
	}
	for _, n := range s.nodes {
		l := n.life
		if l == nil || l.placing || len(l.queue)+len(l.written)+len(l.synced) > 0 || l.index.Revision() != s.etcd.revision ||
			!l.core.drained() || l.core.admission.parked.len() > 0 {
			return false
		}
	}
	for _, p := range s.producers {
		if _, alive := s.truth.TopicByID(p.id.Topic); alive && p.producer >= 0 && len(p.unacked) > 0 {
			return false
		}
	}
	for _, r := range s.consumers {
		at, led := s.truth.Leader(r.id)
		if _, alive := s.truth.TopicByID(r.id.Topic); !alive {
			continue
		}
		if _, alive := s.truth.Node(at.Node); !led || !alive || r.next < s.truth.End(r.id) {
			return false
		}
	}
	return true
}

// finish checks what must hold in the end: everything that was promised is there, fresh readers find the same in the store and at the
// leaders, and the histories of all clients show no anomaly.
func (s *seededCluster) finish(from uint64) {
	for what, claims := range map[string]map[meta.Partition]map[int64]uint64{"acknowledged": s.acked, "read": s.observed} {
		for p, list := range claims {
			for offset, v := range list {
				s.failf("%d was %s at %s offset %d, and is lost: the log has come to %d", v, what, s.name(p), offset, s.truth.End(p))
			}
		}
	}
	s.truthStands()
	for _, p := range s.producers {
		for _, b := range append(p.unacked, p.unheard...) {
			p.record(b, history.Info, 0)
		}
	}
	for _, r := range s.consumers {
		if _, alive := s.truth.TopicByID(r.id.Topic); !alive {
			continue
		}
		fresh := &clusterConsumer{c: s.cluster, number: 100 + r.number, id: r.id}
		for fresh.next < s.truth.End(r.id) {
			before := fresh.next
			fresh.poll()
			for waited := 0; fresh.next == before; waited++ { // its leader may be changing, to spread the partitions
				if waited == 5000 {
					s.failf("a fresh reader of %s stands still at %d of %d", s.name(r.id), before, s.truth.End(r.id))
				}
				from++
				s.step(from)
				fresh.poll()
			}
		}
		final := history.FinalRead{Source: "object store", Partition: s.inHistory(r.id)}
		log := s.log[r.id]
		if log == nil {
			continue
		}
		for _, offset := range slices.Sorted(maps.Keys(log.values)) {
			final.Records = append(final.Records, history.Record{Offset: offset, Value: log.values[offset]})
		}
		s.history.FinalRead(final)
		for _, lost := range s.truth.Lost(r.id) {
			s.history.Lost(final.Partition, lost.From, lost.To)
		}
	}
	report := s.history.Check(history.Options{})
	if bad := report.Bad(); len(bad) > 0 {
		var out strings.Builder
		if err := report.Write(&out); err != nil {
			panic(err)
		}
		s.failf("the clients' histories show %v\n%s", bad, out.String())
	}
}

// runSeed runs one seed, with the steps that keep says (all when nil), and returns what it found wrong.
func runSeed(seed uint64, steps uint64, keep func(uint64) bool, tracing bool) (s *seededCluster, failed uint64, failure string) {
	s = newSeededCluster(seed, tracing)
	number := uint64(0)
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(simStopped)
			if !ok {
				panic(fmt.Sprintf("seed %d, step %d: %v\n%s", seed, number, r, s))
			}
			failed, failure = number, f.message
		}
	}()
	for number < steps || keep == nil && (s.now.Sub(s.began) < clusterLogic || s.operations < 5000) {
		number++
		if keep == nil || keep(number) {
			s.step(number)
		}
	}
	s.rest(number + 1)
	s.finish(number + 100_000)
	return s, 0, ""
}

// shrink looks for few steps that fail alike, leaving out ever smaller stretches of those up to the failing one.
func shrink(seed, failed uint64, failure string, patience time.Duration) ([]uint64, string) {
	steps := make([]uint64, 0, failed)
	for n := uint64(1); n <= failed; n++ {
		steps = append(steps, n)
	}
	until := time.Now().Add(patience) //nolint:forbidigo // bounds the work of a test that has failed already
	kind := failureKind(failure)
	fails := func(list []uint64) bool {
		set := make(map[uint64]bool, len(list))
		for _, n := range list {
			set[n] = true
		}
		last := list[len(list)-1]
		_, at, message := runSeed(seed, last, func(n uint64) bool { return set[n] }, false)
		return at > 0 && at <= last && failureKind(message) == kind
	}
	for size := len(steps) / 2; size > 0 && len(steps) > 1; size /= 2 {
		for from := 0; from+size <= len(steps) && len(steps) > size; {
			if time.Now().After(until) { //nolint:forbidigo // see above
				return steps, failure
			}
			less := append(slices.Clone(steps[:from]), steps[from+size:]...)
			if fails(less) {
				steps = less
			} else {
				from += size
			}
		}
	}
	return steps, failure
}

// failureKind is a failure without its numbers.
func failureKind(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, message)
}

func envNumber(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// clusterTotals adds up what seeds have done.
type clusterTotals struct {
	mu                                                                   sync.Mutex
	seeds                                                                int
	operations, acks, retries, reads, folds, starts, moves, let, forgets int
	leastOperations, leastFaults                                         int
	logical                                                              time.Duration
	faults                                                               map[string]int
}

func (t *clusterTotals) add(s *seededCluster) {
	t.mu.Lock()
	defer t.mu.Unlock()
	faults := 0
	for name, n := range s.faults {
		if t.faults == nil {
			t.faults = make(map[string]int)
		}
		t.faults[name] += n
		faults += n
	}
	if t.seeds == 0 || s.operations < t.leastOperations {
		t.leastOperations = s.operations
	}
	if t.seeds == 0 || faults < t.leastFaults {
		t.leastFaults = faults
	}
	t.seeds++
	t.operations, t.acks, t.retries, t.reads = t.operations+s.operations, t.acks+s.acks, t.retries+s.retries, t.reads+s.reads
	t.folds, t.starts, t.moves, t.let, t.forgets = t.folds+s.folds, t.starts+s.starts, t.moves+s.moves, t.let+s.releases, t.forgets+s.forgets
	t.logical += s.now.Sub(s.began)
}

func (t *clusterTotals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds, %.1f logical hours: %d operations (at least %d a seed), %d acknowledgements (%d of retries), %d reads, %d folds, %d starts, %d partitions moved (%d let go), %d nodes forgotten\n",
		t.seeds, t.logical.Hours(), t.operations, t.leastOperations, t.acks, t.retries, t.reads, t.folds, t.starts, t.moves, t.let, t.forgets)
	fmt.Fprintf(&b, "faults (at least %d a seed):\n", t.leastFaults)
	for _, name := range slices.Sorted(maps.Keys(t.faults)) {
		fmt.Fprintf(&b, "  %-32s %d\n", name, t.faults[name])
	}
	return b.String()
}

// everyFault are the faults that a run of many seeds must have met.
var everyFault = []string{
	"clock jumps", "disk full", "disk full met", "disk lost", "drain", "durability changed", "etcd elects", "etcd without quorum", "graceful stop",
	"lease lost", "link to clients cut", "link to etcd cut", "link to the store cut", "node forgotten", "power lost", "power lost after a kill", "process killed", "process paused",
	"put lands after its node died", "reply lost", "request lost", "store fails after", "store fails before", "topic deleted", "topic grows", "transaction applied late",
	"transaction doubled", "watch compacted",
}

// TestClusterSim runs seeded clusters. TIDEMARK_SIM_SEEDS says how many, TIDEMARK_SIM_FROM which is the first, TIDEMARK_SIM_SEED
// which one alone; a seed that fails prints the shortest trace that was found.
func TestClusterSim(t *testing.T) {
	seeds, from := envNumber("TIDEMARK_SIM_SEEDS", 12), envNumber("TIDEMARK_SIM_FROM", 1)
	if n := envNumber("TIDEMARK_SIM_SEED", 0); n > 0 {
		from, seeds = n, 1
	}
	var totals clusterTotals
	var next atomic.Uint64
	var failed sync.Map
	next.Store(from)
	began := time.Now() //nolint:forbidigo // the figure is logical time a second
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= from+seeds {
					return
				}
				s, at, failure := runSeed(seed, clusterSteps1, nil, false)
				if failure != "" {
					failed.Store(seed, [2]any{at, failure})
					next.Store(from + seeds)
					return
				}
				totals.add(s)
			}
		})
	}
	workers.Wait()
	took := time.Since(began) //nolint:forbidigo // see above
	failed.Range(func(key, value any) bool {
		seed, found := key.(uint64), value.([2]any)
		steps, failure := shrink(seed, found[0].(uint64), found[1].(string), time.Duration(envNumber("TIDEMARK_SIM_SHRINK", 60))*time.Second)
		set := make(map[uint64]bool)
		for _, n := range steps {
			set[n] = true
		}
		s, _, again := runSeed(seed, steps[len(steps)-1], func(n uint64) bool { return set[n] }, true)
		t.Errorf("seed %d fails at step %d: %s\nthe shortest trace found, %d steps:\n%s\nthen: %s", seed, found[0], failure, len(steps), s, again)
		return true
	})
	t.Logf("%s%.0f logical hours in a CPU hour, %.1f seeds a second", &totals,
		totals.logical.Hours()/(took.Hours()*float64(runtime.GOMAXPROCS(0))), float64(totals.seeds)/took.Seconds())
	if t.Failed() || seeds < 12 {
		return
	}
	if totals.leastOperations < 5000 || totals.leastFaults < 20 {
		t.Error("a world is too quiet to prove anything")
	}
	if seeds < 200 {
		return
	}
	for _, name := range everyFault {
		if totals.faults[name] == 0 {
			t.Errorf("no seed has met the fault %q", name)
		}
	}
}
