package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// tally counts what was acknowledged. Its methods may be called from any goroutine.
type tally struct {
	topic   string
	refused func(error) // called once, at the first record that is not acknowledged

	mu      sync.Mutex
	records int64
	bytes   int64
	reached tidemarkv1.Reached // the lowest of all
	offsets map[int32]int64    // partition to the offset behind its last acknowledged record
	err     error              // of the first record that was not acknowledged
}

func newTally(topic string, refused func(error)) *tally {
	return &tally{topic: topic, refused: refused, reached: math.MaxInt32, offsets: map[int32]int64{}}
}

func (t *tally) add(k acked, size int) {
	t.mu.Lock()
	if k.err == nil {
		t.records++
		t.bytes += int64(size)
		t.reached = min(t.reached, k.reached)
		if k.offset >= 0 {
			t.offsets[k.partition] = max(t.offsets[k.partition], k.offset+1)
		}
		t.mu.Unlock()
		return
	}
	first := t.err == nil
	if first {
		t.err = k.err
	}
	t.mu.Unlock()
	if first {
		t.refused(k.err)
	}
}

func (t *tally) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *tally) acknowledged() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.records
}

func (t *tally) progress(elapsed time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := elapsed.Seconds()
	return fmt.Sprintf("%d records, %.0f records/s, %.1f MB/s", t.records, float64(t.records)/s, float64(t.bytes)/1e6/s)
}

// produceSummary is what produce prints at its end, whatever the end.
type produceSummary struct {
	Records  int64           `json:"records"`
	Bytes    int64           `json:"bytes"`
	Seconds  float64         `json:"seconds"`
	Reached  string          `json:"reached"`
	Position positionSummary `json:"position"`
}

type positionSummary struct {
	Topic   string          `json:"topic"`
	Offsets map[int32]int64 `json:"offsets"`
}

func (p positionSummary) String() string {
	partitions := make([]int32, 0, len(p.Offsets))
	for n := range p.Offsets {
		partitions = append(partitions, n)
	}
	if len(partitions) == 0 {
		return "-"
	}
	slices.Sort(partitions)
	var b strings.Builder
	for i, n := range partitions {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d:%d", n, p.Offsets[n])
	}
	return b.String()
}

func (t *tally) summary(elapsed time.Duration) produceSummary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := produceSummary{
		Records: t.records, Bytes: t.bytes, Seconds: math.Round(elapsed.Seconds()*1000) / 1000,
		Reached: "none", Position: positionSummary{Topic: t.topic, Offsets: t.offsets},
	}
	if t.records > 0 {
		s.Reached = reachedName(t.reached)
	}
	return s
}

func reachedName(r tidemarkv1.Reached) string {
	switch r {
	case tidemarkv1.Reached_REACHED_BUFFERED:
		return "buffered"
	case tidemarkv1.Reached_REACHED_DISK:
		return "disk"
	case tidemarkv1.Reached_REACHED_OBJECT:
		return "object"
	case tidemarkv1.Reached_REACHED_NONE, tidemarkv1.Reached_REACHED_UNSPECIFIED:
	}
	return "none"
}

func (a *app) renderSummary(s produceSummary) error {
	return a.render(view{
		columns: []string{"records", "bytes", "seconds", "reached", "position"},
		rows:    [][]string{{fmt.Sprint(s.Records), fmt.Sprint(s.Bytes), fmt.Sprintf("%.3f", s.Seconds), s.Reached, s.Position.String()}},
		json:    s,
		plain: func(w io.Writer) error {
			noun := "records"
			if s.Records == 1 {
				noun = "record"
			}
			_, err := fmt.Fprintf(w, "%d %s, %d bytes in %.3f s, reached %s, position %s %s\n",
				s.Records, noun, s.Bytes, s.Seconds, s.Reached, s.Position.Topic, s.Position)
			return err
		},
	})
}
