package history

import (
	"errors"
	"strings"
	"testing"
)

// tell records a few operations on one partition and checks them.
func tell(t *testing.T, record func(h *History, p Partition)) Report {
	t.Helper()
	h := New()
	record(h, h.Partition("orders/0"))
	return h.Check(Options{Examples: 1})
}

func write(t *testing.T, r Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The report of a lost write names what was promised, by whom and when, and who had seen it.
func TestReportTellsTheStory(t *testing.T) {
	r := tell(t, func(h *History, p Partition) {
		h.Produce(Produce{Call: Call{Process: 1, Invoke: 10, Complete: 20}, Partition: p, Value: 7, Count: 2, Offset: 0})
		h.Produce(Produce{Call: Call{Process: 1, Invoke: 30}, Partition: p, Value: 9, Outcome: Info})
		h.Poll(Poll{Call: Call{Process: 2, Invoke: 21, Complete: 25}, Partition: p, Records: []Record{{0, 7}, {1, 8}}})
		h.FinalRead(FinalRead{Source: "object store", Partition: p, Records: []Record{{0, 7}}})
	})
	want := `sent: 2 acknowledged, 0 failed, 1 unknown; polled: 2 in 1 polls; final reads: 1; commits: 0, reads of them: 0; queries: 0
lost-write                       1
precommitted-read                1

lost-write, example 1: orders/0 at offset 1: value 8 was acknowledged and is not in the log: produce orders/0 by process 1 in [10, 20]: values 7 to 8 ok at offset 0
    produce orders/0 by process 1 in [10, 20]: values 7 to 8 ok at offset 0
    1=8 in poll orders/0 from offset 0 by process 2 in [21, 25]: 2 records 0=7 1=8

precommitted-read, example 1: orders/0 at offset 1: value 8 was polled and is not there at the end
    produce orders/0 by process 1 in [10, 20]: values 7 to 8 ok at offset 0
    1=8 in poll orders/0 from offset 0 by process 2 in [21, 25]: 2 records 0=7 1=8
`
	if got := write(t, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := r.Write(failingWriter{}); err == nil {
		t.Error("a writer's error was not reported")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

// What is allowed is counted and is not bad.
func TestAllowedKindsAreCountedAndNotBad(t *testing.T) {
	r := tell(t, func(h *History, p Partition) {
		h.Produce(Produce{Call: Call{Process: 1, Invoke: 1}, Partition: p, Value: 10, Count: 3, Outcome: Info})
		h.Produce(Produce{Call: Call{Process: 2, Invoke: 1, Complete: 9}, Partition: p, Value: 20, Offset: 1, MayRepeat: true})
		h.Produce(Produce{Call: Call{Process: 3, Invoke: 1, Complete: 9}, Partition: p, Value: 30, Offset: 5})
		h.Lost(p, 5, 1000)
		h.FinalRead(FinalRead{Source: "memory", Partition: p, Records: []Record{{0, 10}, {1, 20}, {2, 11}, {3, 20}, {4, 12}, {1000, 1}}})
		h.Produce(Produce{Call: Call{Process: 3, Invoke: 10}, Partition: p, Value: 1, Outcome: Info})
	})
	if bad := r.Bad(); bad != nil {
		t.Errorf("found %v", bad)
	}
	for k, n := range map[Kind]int{IntSendSkip: 2, RepeatedSend: 1, DeclaredLoss: 1} {
		if r.Anomalies[k].Count != n {
			t.Errorf("%s: %d, want %d", k, r.Anomalies[k].Count, n)
		}
	}
	if got := write(t, r); !strings.Contains(got, "no anomaly\n") || !strings.Contains(got, "int-send-skip                    2  allowed\n") {
		t.Errorf("got\n%s", got)
	}
}

// Offsets that are nonsense, and logs that jump, take no memory for what lies between.
func TestFarOffsetsCostNothing(t *testing.T) {
	h := New()
	p := h.Partition("orders/0")
	for i := range int64(60) {
		h.Produce(Produce{Call: Call{Process: 1, Invoke: i, Complete: i}, Partition: p, Value: uint64(i), Offset: 1 << i})
	}
	r := h.Check(Options{})
	if n := len(h.check.state.value); n > 200 {
		t.Errorf("%d slots for 60 records", n)
	}
	if r.Seen.Acked != 60 {
		t.Errorf("saw %+v", r.Seen)
	}
}

// A check changes nothing, and Reset leaves nothing behind but the handles.
func TestCheckRepeatsAndResetForgets(t *testing.T) {
	h := New()
	s := healthy(5)
	s.record(h)
	h.Produce(Produce{Call: Call{Process: 1}, Partition: 1, Value: 77, Offset: 1 << 20})
	first := write(t, h.Check(Options{}))
	if second := write(t, h.Check(Options{})); first != second || !strings.Contains(first, "lost-write") {
		t.Errorf("first\n%s\nsecond\n%s", first, second)
	}
	h.Reset()
	if r := h.Check(Options{}); r.Bad() != nil || r.Seen != (Seen{}) {
		t.Errorf("after the reset: %+v, %v", r.Seen, r.Bad())
	}
	if h.Partition("orders/1") != 2 {
		t.Error("the reset took the handles")
	}
	s.record(h)
	if r := h.Check(Options{MustSee: mustSee}); r.Bad() != nil {
		t.Errorf("healthy after the reset, but found %v", r.Bad())
	}
}

// What a history cannot mean is refused and told, and nothing is made of it.
func TestNonsenseIsMalformed(t *testing.T) {
	for name, record := range map[string]func(h *History, p Partition){
		"no partition":      func(h *History, _ Partition) { h.Produce(Produce{Value: 1}) },
		"unknown partition": func(h *History, p Partition) { h.Poll(Poll{Partition: p + 1}) },
		"negative offset":   func(h *History, p Partition) { h.Produce(Produce{Partition: p, Offset: -1}) },
		"negative record":   func(h *History, p Partition) { h.Poll(Poll{Partition: p, Records: []Record{{Offset: -5}}}) },
		"negative count":    func(h *History, p Partition) { h.Produce(Produce{Partition: p, Count: -1}) },
		"too many records":  func(h *History, p Partition) { h.Produce(Produce{Partition: p, Count: maxRecords + 1}) },
		"values run over":   func(h *History, p Partition) { h.Produce(Produce{Partition: p, Value: 1<<64 - 1, Count: 2}) },
		"time runs back":    func(h *History, p Partition) { h.Commit(Commit{Call: Call{Invoke: 2, Complete: 1}, Partition: p}) },
		"outside of a final": func(h *History, p Partition) {
			h.FinalRead(FinalRead{Source: "a", Partition: p, From: 5, Records: []Record{{4, 1}}})
		},
		"nine sources": func(h *History, p Partition) {
			for s := range strings.SplitSeq("a b c d e f g h i", " ") {
				h.FinalRead(FinalRead{Source: s, Partition: p})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if f := tell(t, record).Anomalies[Malformed]; f.Count != 1 || len(f.Examples) != 1 {
				t.Errorf("found %+v", f)
			}
		})
	}
}

// A record may be read before it is known that it was sent, and a poll may overlap with an acknowledgement: nothing is strict where times touch.
func TestOperationsThatTouchAreConcurrent(t *testing.T) {
	r := tell(t, func(h *History, p Partition) {
		h.Produce(Produce{Call: Call{Process: 1, Invoke: 0, Complete: 10}, Partition: p, Value: 1, Offset: 1})
		h.Produce(Produce{Call: Call{Process: 2, Invoke: 10, Complete: 20}, Partition: p, Value: 2, Offset: 0})
		h.Poll(Poll{Call: Call{Process: 3, Invoke: 20, Complete: 21}, Partition: p, Linearizable: true, From: 2})
		h.Poll(Poll{Call: Call{Process: 4, Invoke: 10, Complete: 21}, Partition: p, Linearizable: true})
		h.Query(Query{Call: Call{Process: 5, Invoke: 10, Complete: 30}, Answers: []Answer{{Partition: p}}})
		h.FinalRead(FinalRead{Source: "memory", Partition: p, Records: []Record{{0, 2}, {1, 1}}})
	})
	if bad := r.Bad(); bad != nil {
		t.Errorf("found %v", bad)
	}
}
