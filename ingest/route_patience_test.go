package ingest

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// scriptedNode answers each produce with the next line of a script, by its value.
type scriptedNode struct {
	script []string // reasons; "" is success
	taken  []string // values, as handed over
	seen   map[*byte]bool
	again  bool // the same bytes came twice
}

func (n *scriptedNode) ProduceAsync(_ context.Context, r ProduceRequest, done func(ProduceResult, error)) {
	if n.seen == nil {
		n.seen = make(map[*byte]bool)
	}
	n.again = n.again || n.seen[&r.Batch[0]]
	n.seen[&r.Batch[0]] = true
	reason := ""
	if len(n.taken) < len(n.script) {
		reason = n.script[len(n.taken)]
	}
	n.taken = append(n.taken, fmt.Sprint(r.Partition))
	if reason == "" {
		done(ProduceResult{Partition: r.Partition, Records: 1, BaseOffset: int64(len(n.taken))}, nil)
		return
	}
	done(ProduceResult{}, Errorf(Reason(reason), "scripted").WithRetryAfter(100*time.Millisecond))
}

func (n *scriptedNode) InitProducer(context.Context) (int64, int16, error) { return 0, 0, nil }

func TestProducesOfThoseWhoWait(t *testing.T) {
	const notLeader, unknown = string(ReasonNotLeader), string(ReasonOutcomeUnknown)
	for name, c := range map[string]struct {
		partitions []int32
		producer   int64
		script     []string
		want       string // reasons of the outcomes
		attempts   int
	}{
		"at once":                        {[]int32{0}, -1, nil, "[]", 1},
		"a leader is found":              {[]int32{0}, -1, []string{notLeader, notLeader, ""}, "[]", 3},
		"the leader stops":               {[]int32{0}, -1, []string{string(ReasonShuttingDown), ""}, "[]", 2},
		"refused":                        {[]int32{0}, -1, []string{string(ReasonCorruptBatch)}, "[CORRUPT_BATCH]", 1},
		"back-pressure":                  {[]int32{0}, -1, []string{string(ReasonBackPressure)}, "[BACK_PRESSURE]", 1},
		"in doubt":                       {[]int32{0}, -1, []string{unknown}, "[OUTCOME_UNKNOWN]", 1},
		"in doubt, idempotent":           {[]int32{0}, 5, []string{unknown, notLeader, ""}, "[]", 3},
		"in doubt, then refused":         {[]int32{0}, 5, []string{unknown, notLeader, string(ReasonOutOfOrderSequence), ""}, "[]", 4},
		"the tail is repeated in order":  {[]int32{0, 0, 0}, -1, []string{"", notLeader, notLeader}, "[  ]", 5},
		"not when what is behind is in":  {[]int32{0, 0, 0}, -1, []string{notLeader, "", notLeader}, "[NOT_LEADER  NOT_LEADER]", 3},
		"not when what is behind is out": {[]int32{0, 0}, -1, []string{notLeader, unknown}, "[NOT_LEADER OUTCOME_UNKNOWN]", 2},
		"partitions are apart":           {[]int32{0, 1, 2}, -1, []string{notLeader, "", string(ReasonTooLarge)}, "[  TOO_LARGE]", 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := &scriptedNode{script: c.script}
				p := newPatience(node, clock.System(), nil)
				var requests []ProduceRequest
				for n, partition := range c.partitions {
					requests = append(requests, ProduceRequest{Topic: "a", Partition: partition, Batch: testBatch(c.producer, int32(n), "x")})
				}
				var got []Reason
				for _, o := range p.produce(t.Context(), requests) {
					got = append(got, ReasonOf(o.err))
				}
				if fmt.Sprint(got) != c.want || len(node.taken) != c.attempts {
					t.Errorf("%v after %d attempts, want %s after %d", got, len(node.taken), c.want, c.attempts)
				}
				if node.again {
					t.Error("bytes were handed over twice: whoever had them first may still read them")
				}
				if !p.room.TryAcquire(patientBytes) {
					t.Error("room was not given back")
				}
			})
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	always := make([]string, 10_000)
	for n := range always {
		always[n] = string(ReasonNotLeader)
	}
	for name, c := range map[string]struct {
		setup func(p *patience, ctx context.Context) context.Context
		least time.Duration
		most  time.Duration
	}{
		"by itself": {func(_ *patience, ctx context.Context) context.Context { return ctx }, leaderPatience - time.Second, leaderPatience},
		"of a forwarded call": {func(_ *patience, ctx context.Context) context.Context {
			return context.WithValue(ctx, forwardedKey{}, &forwardedCall{})
		}, 0, 0},
		"when too much waits": {func(p *patience, ctx context.Context) context.Context { p.room.TryAcquire(patientBytes); return ctx }, 0, 0},
		"when the process stops": {func(p *patience, ctx context.Context) context.Context {
			c := make(chan struct{})
			close(c)
			p.closing = c
			return ctx
		}, 0, 0},
		"with the caller": {func(_ *patience, ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(ctx, 3050*time.Millisecond)
			context.AfterFunc(ctx, cancel)
			return ctx
		}, 3050 * time.Millisecond, 3050 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPatience(&scriptedNode{script: always}, clock.System(), nil)
				ctx := c.setup(p, t.Context())
				began := clock.System().Now()
				out := p.produce(ctx, []ProduceRequest{{Topic: "a", Batch: oneBatch("x")}})
				took := clock.System().Now().Sub(began)
				if ReasonOf(out[0].err) != ReasonNotLeader || took < c.least || took > c.most {
					t.Errorf("%v after %s", out[0].err, took)
				}
			})
		})
	}
}
