package client

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// someNodes is a cluster of which the test decides what is known.
type someNodes struct {
	leaders map[int32]*endpoint
	other   *endpoint
}

func (n someNodes) leader(_ string, partition int32) (*endpoint, bool) {
	e := n.leaders[partition]
	return e, e != nil
}

func (n someNodes) any() *endpoint { return n.other }

// Whatever happens to leaders and streams: every partition that is due is read by exactly one stream, at its leader when that is
// known; streams that go on well are not touched for those that do not; and what waited for Poll is not skipped.
func TestPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ends := []*endpoint{{url: "a"}, {url: "b"}, {url: "c"}}
		known := someNodes{leaders: map[int32]*endpoint{}, other: ends[0]}
		pl := placement{parts: map[logKey]*readPartition{}, streams: map[lane]*readStream{}}
		now := time.Unix(1000, 0)
		given := map[int32]int64{} // what Poll has had
		count := rapid.Int32Range(1, 8).Draw(t, "partitions")
		for n := range count {
			key := logKey{"t", n}
			pl.parts[key] = &readPartition{key: key, end: noEnd}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.Int32Range(0, count-1).Draw(t, "partition")
			p := pl.parts[logKey{"t", n}]
			switch rapid.SampledFrom([]string{"lead", "unknown", "fail", "bring", "poll", "time"}).Draw(t, "event") {
			case "lead":
				known.leaders[n] = rapid.SampledFrom(ends).Draw(t, "leader")
			case "unknown":
				delete(known.leaders, n)
			case "fail":
				if s := p.stream; s != nil && s.gave == nil {
					delete(pl.streams, s.lane)
					for _, q := range s.parts {
						q.stream, q.at, q.failedAt = nil, nil, s.lane.at
						q.failures++
						q.retryAt = now.Add(time.Second)
					}
				}
			case "bring":
				if s := p.stream; s != nil && s.gave == nil {
					s.answered, s.brought = true, true
					s.gave = &Batches{Topic: "t", Partition: n, From: p.next, Next: p.next + 10}
					p.next += 10
					p.failures = 0
				}
			case "poll":
				if s := p.stream; s != nil && s.gave != nil {
					if s.gave.From != given[s.gave.Partition] {
						t.Fatalf("partition %d goes on at %d, not %d", s.gave.Partition, s.gave.From, given[s.gave.Partition])
					}
					given[s.gave.Partition] = s.gave.Next
					s.gave = nil
				}
			case "time":
				now = now.Add(time.Second)
			}
			stop, open, _ := pl.place(now, known)
			for _, s := range stop {
				if pl.streams[s.lane] == s || s.gave != nil || !s.stopped {
					t.Fatal("a stopped stream goes on")
				}
			}
			for _, s := range open {
				if pl.streams[s.lane] != s || len(s.parts) == 0 {
					t.Fatal("a stream is opened for nothing")
				}
			}
			reads := map[int32]int{}
			for l, s := range pl.streams {
				if s.lane != l || s.stopped {
					t.Fatalf("stream %v is filed as %v", s.lane, l)
				}
				for m, q := range s.parts {
					reads[m]++
					if q.stream != s || q != pl.parts[q.key] {
						t.Fatalf("partition %d is not its stream's", m)
					}
					if e := known.leaders[m]; e != nil && e != l.at {
						t.Fatalf("partition %d is read at %s, its leader is %s", m, l.at.url, e.url)
					}
				}
			}
			for m := range count {
				q := pl.parts[logKey{"t", m}]
				e := known.leaders[m]
				due := !q.retryAt.After(now) || e != nil && e != q.failedAt
				if reads[m] > 1 || due && reads[m] == 0 || (q.stream != nil) != (reads[m] == 1) {
					t.Fatalf("partition %d, due %v, is read by %d streams", m, due, reads[m])
				}
				if pending := q.stream != nil && q.stream.gave != nil && q.stream.gave.Partition == m; !pending && q.next != given[m] {
					t.Fatalf("partition %d goes on at %d, Poll had it up to %d", m, q.next, given[m])
				}
			}
			// A second look changes nothing.
			if stop, open, _ := pl.place(now, known); len(stop)+len(open) > 0 {
				t.Fatalf("%d streams are stopped and %d opened for nothing", len(stop), len(open))
			}
		}
	})
}

// One partition that always fails takes the others with it only a few times, however many there are.
func TestPlacementIsolates(t *testing.T) {
	leader := &endpoint{url: "a"}
	known := someNodes{leaders: map[int32]*endpoint{}, other: leader}
	pl := placement{parts: map[logKey]*readPartition{}, streams: map[lane]*readStream{}}
	const bad = 5
	for n := range int32(64) {
		key := logKey{"t", n}
		pl.parts[key] = &readPartition{key: key, end: noEnd}
		known.leaders[n] = leader
	}
	now := time.Unix(1000, 0)
	failed := map[int32]int{}
	opened := 0
	for range 60 {
		_, open, _ := pl.place(now, known)
		opened += len(open)
		now = now.Add(2 * provenAfter)
		for _, s := range pl.streams {
			s.answered = true
			if s.parts[bad] == nil {
				continue
			}
			s.answered = false
			delete(pl.streams, s.lane)
			for n, q := range s.parts {
				q.stream, q.at, q.failedAt = nil, nil, leader
				q.failures++
				q.retryAt = now
				failed[n]++
			}
		}
	}
	for n, times := range failed {
		if n != bad && times > 8 {
			t.Errorf("partition %d failed %d times with its neighbor", n, times)
		}
	}
	for l, s := range pl.streams {
		if l.trial == 0 && len(s.parts) != 63 {
			t.Errorf("the main stream reads %d partitions", len(s.parts))
		}
	}
	if failed[bad] < 50 || opened > 200 {
		t.Errorf("the bad one was tried %d times, and %d streams were opened", failed[bad], opened)
	}
}
