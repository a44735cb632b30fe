package nemesis

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// handover is how one partition came from one leader to the next, from what the nodes wrote to etcd and what producers were told. Times
// are since the beginning of the run; those that nobody knows are 0.
type handover struct {
	partition string
	from, to  turn
	// lastTaken is when the old leader took its last batch that was committed, firstTaken when the new one took its first; a node that comes
	// back may commit first what it took before.
	lastTaken, firstTaken time.Duration
	released              time.Duration // the old leader's letting go was in etcd
	assigned              time.Duration // the new leader's assignment was
	committed             time.Duration // the new leader's first commit was
	stall                 Stall         // of the partition's producers, which the first acknowledgement after committed ended
}

// handovers are the first since a time of all partitions that a node led then and whose next leader had committed by the end.
func (w *Workload) handovers(node *Node, since, until time.Duration, stalls []Stall) []handover {
	marks := w.journal.between(since, until)
	begin := w.began.UnixMilli()
	taken := func(ms int64) time.Duration { return max(time.Duration(ms-begin)*time.Millisecond, 0) }
	var out []handover
	for _, topic := range w.config.Topics {
		for _, name := range w.names[topic.Name] {
			from, ok := w.journal.before(name, since)
			to, moved := w.journal.after(name, since)
			if !ok || !moved || to.at >= until || string(from.node) != node.id {
				continue
			}
			h := handover{partition: name, from: from, to: to, lastTaken: taken(from.last), firstTaken: taken(to.first), committed: to.at}
			for _, m := range marks {
				if m.at > to.at {
					break
				}
				switch m.what {
				case "release/" + string(from.node):
					if h.assigned == 0 {
						h.released = m.at
					}
				case "assign/" + string(to.node):
					if m.at > h.released {
						h.assigned = m.at
					}
				}
			}
			// The commit may be heard of a little after its acknowledgements.
			for _, s := range stalls {
				if s.Partition == name && s.To >= to.at-20*time.Millisecond && (h.stall.Partition == "" || s.To < h.stall.To) {
					h.stall = s
				}
			}
			out = append(out, h)
		}
	}
	return out
}

// inOrder are the handovers that a node was asked for after a time: it let go, and the next leader took over after that.
func inOrder(handovers []handover, since time.Duration) []handover {
	var out []handover
	for _, h := range handovers {
		if h.released > 0 && h.firstTaken >= since {
			out = append(out, h)
		}
	}
	return out
}

// table shows handovers, in ms after a time.
func table(handovers []handover, since time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %-8s %11s %9s %9s %11s %10s %10s %9s\n", "partition", "nodes", "last taken", "released", "assigned", "first taken", "committed", "first ack", "stall")
	ms := func(at time.Duration) string {
		if at == 0 {
			return "–"
		}
		return fmt.Sprint((at - since).Milliseconds())
	}
	for _, h := range handovers {
		ack, stall := "–", "–"
		if h.stall.Partition != "" {
			ack, stall = ms(h.stall.To), fmt.Sprint(h.stall.Length().Milliseconds())
		}
		fmt.Fprintf(&b, "%-10s %-8s %11s %9s %9s %11s %10s %10s %9s\n", h.partition, string(h.from.node)+"→"+string(h.to.node),
			ms(h.lastTaken), ms(h.released), ms(h.assigned), ms(h.firstTaken), ms(h.committed), ack, stall)
	}
	return b.String()
}

// lastOf is when the last of some handovers was complete; 0 of none.
func lastOf(handovers []handover) time.Duration {
	if len(handovers) == 0 {
		return 0
	}
	return slices.MaxFunc(handovers, func(a, b handover) int { return int(a.committed - b.committed) }).committed
}
