package killtest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/tidemark-io/tidemark/proof/failpoint"
)

const (
	// rowPatience bounds a row, also on a machine that does much else.
	rowPatience = 2 * time.Minute
	// meetPatience is how long a point may not be met when everything is ready for it.
	meetPatience = 30 * time.Second
	// atOnce is how many rows run at once. Those that wait for a lease to run out do little else, and run beside these.
	atOnce = 4
)

// row is one way to die.
type row struct {
	point      string
	durability string // of the topic that is looked at
	// later: not the first time that the point is met under load, but another, or on another occasion. See story.
	later bool
}

func (r row) name() string {
	when := "first"
	if r.later {
		when = "later"
	}
	return r.point + "/" + r.durability + "/" + when
}

// nth is which meeting of the point kills the node.
func (r row) nth() int64 {
	switch {
	case !r.later, r.is("start-", "release-", "assign-"):
		return 1
	case r.is("fold-"):
		return 2
	}
	return 5
}

// linger is how long the node lives on after the point was met, when it was met later: whatever does not wait for the step then shows.
// What two nodes do with each other it would only get done.
func (r row) linger() time.Duration {
	if r.later && !r.is("release-", "assign-") {
		return 30 * time.Millisecond
	}
	return 0
}

// is tells whether the point is one of a kind.
func (r row) is(kinds ...string) bool {
	return slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(r.point, kind) })
}

// waits tells whether the row waits for the lease of a dead node.
func (r row) waits() bool {
	return r.is("release-") && (r.later || r.durability == "object") || r.is("assign-") && !r.later && r.durability == "object"
}

// mixed tells whether the point is met only when a topic of the other durability has records too: a disk topic is not flushed soon, and
// an object topic needs no sync.
func (r row) mixed() bool {
	if r.durability == "disk" {
		return r.is("store-", "commit-", "before-ack", "log-before-trim", "log-after-trim", "fold-")
	}
	return r.is("log-before-sync", "log-after-sync")
}

// rows are those of the matrix: each point on both durabilities; full has each of these a second time.
func rows(full bool) []row {
	var out []row
	for _, point := range failpoint.Points {
		for _, durability := range []string{"object", "disk"} {
			out = append(out, row{point, durability, false})
			if full {
				out = append(out, row{point, durability, true})
			}
		}
	}
	return out
}

// TestKillMatrix has a node die at each of its durable steps, on each durability, and looks whether everything that was acknowledged is
// there, and what was refused is not. TIDEMARK_KILL_MATRIX=full dies twice at each. A point that is not met is a failure.
func TestKillMatrix(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if deadline, ok := t.Deadline(); ok { // go test would end us without ending what we started
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-10*time.Second))
		defer cancel()
	}
	built := buildPrograms(t)
	etcd := startEtcd(ctx, t, built.etcd)
	all := rows(os.Getenv("TIDEMARK_KILL_MATRIX") == "full")
	var quick, waiting []row
	for _, r := range all {
		if r.waits() {
			waiting = append(waiting, r)
		} else {
			quick = append(quick, r)
		}
	}
	var (
		mu   sync.Mutex
		done = make(map[row]outcome)
		work sync.WaitGroup
	)
	runAll := func(list []row, workers int) {
		queue := make(chan row, len(list))
		for _, r := range list {
			queue <- r
		}
		close(queue)
		for range workers {
			work.Go(func() {
				for r := range queue {
					t.Run(r.name(), func(t *testing.T) {
						o := play(ctx, t, r, built.tidemark, etcd)
						mu.Lock()
						defer mu.Unlock()
						done[r] = o
					})
				}
			})
		}
	}
	runAll(waiting, atOnce)
	runAll(quick, atOnce)
	work.Wait()
	t.Logf("the kill matrix:\n%s", table(all, done))
}

// table prints what came of each row.
func table(list []row, done map[row]outcome) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "point\tdurability\thit\tafter\tacked before\tacked\tfound\trefused\tunknown\tcommits\trecovered in\t\n")
	for _, r := range list {
		o, ok := done[r]
		if !ok {
			continue // -run left it out, or it failed, which is told
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", r.point, r.durability, o.hit, o.after.Round(time.Millisecond), o.before,
			o.seen.Acked, o.found, o.seen.Failed, o.seen.Unknown, o.seen.Commits, o.recovery.Round(time.Millisecond))
	}
	_ = w.Flush() // into a strings.Builder
	return text.String()
}
