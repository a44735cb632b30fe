package nemesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// Step is one fault of a schedule.
type Step struct {
	At, For time.Duration // after the beginning
	Kind    string
	Class   Class
	Fault   Fault
	lane    int
}

// Pace says how a schedule goes. The zero value is Bufstream's: faults of 10 s, a mix for 30 s, none for a quarter of the time.
type Pace struct {
	Fault time.Duration // how long a fault lasts, unless its kind needs more; 0 is 10 s
	Round time.Duration // how long a mix of kinds stays; 0 is 30 s
}

// PaceFor is a pace at which something happens within a run that is short.
func PaceFor(run time.Duration) Pace {
	fault := min(max(run/10, 3*time.Second), 10*time.Second)
	return Pace{Fault: fault, Round: 3 * fault}
}

// lanes is how many faults may be in force at once, each of another class.
const lanes = 2

// Plan draws a schedule: each round has a mix of one or two kinds of different classes, which take turns; one round of four has
// none. Kinds come in an order that is drawn, each once before any comes again, as far as its class and its length let it.
func Plan(c *Cluster, kinds []Kind, run time.Duration, pace Pace, random Random) []Step {
	if pace.Fault == 0 {
		pace.Fault = 10 * time.Second
	}
	if pace.Round == 0 {
		pace.Round = 3 * pace.Fault
	}
	d := &deck{kinds: kinds, random: random}
	var steps []Step
	for round := 0; time.Duration(round)*pace.Round < run; round++ {
		if round%4 == 0 {
			d.quiet = round + 1 + random.IntN(3) // never the first of four: a short run has faults
		}
		if round == d.quiet {
			continue
		}
		begin := time.Duration(round) * pace.Round
		end := min(begin+pace.Round, run)
		var busy [lanes]Class
		for lane := range lanes {
			at := begin + d.millis(500, 1500)
			for end-at >= pace.Fault {
				k, ok := d.draw(busy[:], lane, run-at)
				if !ok {
					break
				}
				busy[lane] = k.Class
				length := max(pace.Fault, k.Lasts)
				steps = append(steps, Step{At: at, For: length, Kind: k.Name, Class: k.Class, Fault: k.New(c, random), lane: lane})
				at += length + d.millis(1000, 2000)
			}
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return int(a.At - b.At) })
	return steps
}

// deck deals kinds.
type deck struct {
	kinds  []Kind
	left   []Kind
	random Random
	quiet  int // the round without faults
}

func (d *deck) millis(from, below int) time.Duration {
	return time.Duration(from+d.random.IntN(below-from)) * time.Millisecond
}

// draw takes the next kind that a lane can have: of the class that it has in this round, or of one that no other lane has; and
// short enough.
func (d *deck) draw(busy []Class, lane int, room time.Duration) (Kind, bool) {
	for range 2 {
		for i, k := range d.left {
			if k.Lasts > room || busy[lane] != "" && k.Class != busy[lane] || busy[lane] == "" && slices.Contains(busy, k.Class) {
				continue
			}
			d.left = append(d.left[:i:i], d.left[i+1:]...)
			return k, true
		}
		d.left = append(d.left, d.shuffled()...)
	}
	return Kind{}, false
}

func (d *deck) shuffled() []Kind {
	out := slices.Clone(d.kinds)
	for i := len(out) - 1; i > 0; i-- {
		j := d.random.IntN(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// Describe is the schedule as text, a line for each step.
func Describe(steps []Step) string {
	var out strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&out, "%7.1fs  for %4.1fs  %-36s %s\n", s.At.Seconds(), s.For.Seconds(), s.Kind, s.Fault.Name())
	}
	return out.String()
}

// Span is what became of a step. Times are since the beginning of the run; To is when it was healed.
type Span struct {
	Kind string        `json:"kind"`
	Name string        `json:"name"`
	From time.Duration `json:"from_ns"`
	To   time.Duration `json:"to_ns"`
	// Injected: it was in force.
	Injected bool   `json:"injected"`
	Err      string `json:"error,omitempty"`
}

// Perform goes through a schedule and returns what became of it when every fault is healed, or when ctx ended: then what is in
// force is healed at once. said hears what happens.
func Perform(ctx context.Context, steps []Step, began time.Time, said func(format string, args ...any)) []Span {
	classes := make(map[Class]*sync.Mutex)
	for _, s := range steps {
		classes[s.Class] = new(sync.Mutex)
	}
	var mu sync.Mutex
	var spans []Span
	var work sync.WaitGroup
	for lane := range lanes {
		work.Go(func() {
			for _, s := range steps {
				if s.lane != lane {
					continue
				}
				if !wait(ctx, s.At-since(began)) {
					return
				}
				// One that lasted longer than its round, or took long to heal, may still be in force.
				classes[s.Class].Lock()
				span := perform(ctx, s, began, said)
				classes[s.Class].Unlock()
				mu.Lock()
				spans = append(spans, span)
				mu.Unlock()
			}
		})
	}
	work.Wait()
	slices.SortFunc(spans, func(a, b Span) int { return int(a.From - b.From) })
	return spans
}

func perform(ctx context.Context, s Step, began time.Time, said func(format string, args ...any)) Span {
	span := Span{Kind: s.Kind, From: since(began)}
	err := s.Fault.Inject(ctx)
	span.Name, span.Injected = s.Fault.Name(), err == nil
	if err == nil {
		said("%6.1fs  %s", since(began).Seconds(), span.Name)
		wait(ctx, s.For)
	}
	// Healed also when the run was called off.
	err = errors.Join(err, s.Fault.Heal(context.WithoutCancel(ctx)))
	span.To = since(began)
	if err != nil {
		span.Err = err.Error()
		said("%6.1fs  %s: %v", span.To.Seconds(), span.Name, err)
	} else {
		said("%6.1fs  healed: %s", span.To.Seconds(), span.Name)
	}
	return span
}

func since(began time.Time) time.Duration { return clock.System().Now().Sub(began) }
