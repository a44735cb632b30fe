package ingest

import (
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// The core's reads: it plans, and whoever asked reads without it.

// fetchAsked: a consumer asks.
func (c *core) fetchAsked(call *fetchCall, now time.Time) {
	if c.ended {
		call.reply <- fetchPlan{err: Errorf(ReasonShuttingDown, "the node is stopping")}
		return
	}
	c.wakeFetch(c.fetch.Step(fetchAsked{call: call, now: now}))
}

// fetchCanceled: the consumer is gone.
func (c *core) fetchCanceled(call *fetchCall) { c.fetch.Step(fetchCanceled{call: call}) }

func (c *core) wakeFetch(at time.Time) {
	if !at.IsZero() {
		c.outside.wake(at)
	}
}

func (c *core) available(t fetchTarget, enough int) (n int, next int64, err *Error) {
	p := c.partitions[t.id]
	if p == nil {
		return 0, 0, c.notLed(t.id, c.nameOf(t.id))
	}
	if t.epoch > 0 && t.epoch != p.epoch {
		return 0, 0, wrongEpoch(p.topic, t.id.Partition, t.epoch, p.epoch)
	}
	if t.offset < p.start || t.offset > p.end {
		return 0, 0, &Error{
			Reason:  ReasonOffsetOutOfRange,
			Message: fmt.Sprintf("offset %d of topic %s partition %d is out of range: the log has %d to %d", t.offset, p.topic, t.id.Partition, p.start, p.hwm),
			Metadata: map[string]string{
				"log_start_offset": fmt.Sprint(p.start), "high_watermark": fmt.Sprint(p.hwm),
			},
		}
	}
	if t.offset >= p.hwm {
		return 0, t.offset, nil
	}
	if first, ok := c.tail.first(t.id); !ok || t.offset < first {
		return max(enough, 1), p.hwm, nil // history is there for the taking, or was lost and is not waited for
	}
	c.scratch = c.tail.from(t.id, t.offset, p.hwm, max(enough, 1), c.scratch[:0])
	for _, e := range c.scratch {
		n += e.size
	}
	// What the cap left out still counts.
	if len(c.scratch) > 0 && c.scratch[len(c.scratch)-1].next < p.hwm {
		n = max(n, enough)
	}
	return n, p.hwm, nil
}

func (c *core) plan(t fetchTarget, maxBytes int) (partitionPlan, *Error) {
	p := c.partitions[t.id]
	if p == nil {
		return partitionPlan{fetchTarget: t}, c.notLed(t.id, c.nameOf(t.id))
	}
	out := partitionPlan{fetchTarget: t, leads: p.epoch, start: p.start, hwm: p.hwm}
	if t.offset >= p.hwm {
		return out, nil
	}
	if first, ok := c.tail.first(t.id); !ok || t.offset < first {
		// A partition's lead begins behind everything that was lost, and so does its tail.
		out.lost, out.fromTier = lostAt(c.index.Lost(t.id), t.offset)
		return out, nil
	}
	if maxBytes <= 0 {
		return out, nil
	}
	c.scratch = c.tail.from(t.id, t.offset, p.hwm, maxBytes, c.scratch[:0])
	out.tail = make([]plannedBatch, len(c.scratch))
	for i, e := range c.scratch {
		out.tail[i] = planned(e)
	}
	return out, nil
}

func (c *core) passLost(t fetchTarget) fetchTarget {
	p := c.partitions[t.id]
	if p == nil || t.offset >= p.end {
		return t
	}
	if first, ok := c.tail.first(t.id); ok && t.offset >= first {
		return t // a tail begins behind everything that was lost
	}
	t.offset = pastLost(c.index.Lost(t.id), t.offset)
	return t
}

// pastLost is the first offset from this one on that was not lost.
func pastLost(lost []meta.OffsetRange, offset int64) int64 {
	for {
		in, readable := lostAt(lost, offset)
		if readable {
			return offset
		}
		offset = in.To
	}
}

// lostAt finds the lost range that holds an offset; readable tells that there is none.
func lostAt(lost []meta.OffsetRange, offset int64) (in meta.OffsetRange, readable bool) {
	i, ok := slices.BinarySearchFunc(lost, offset, func(r meta.OffsetRange, offset int64) int {
		switch {
		case r.To <= offset:
			return -1
		case r.From > offset:
			return 1
		}
		return 0
	})
	if !ok {
		return meta.OffsetRange{}, true
	}
	return lost[i], false
}

func (c *core) nameOf(id meta.Partition) string {
	if t, ok := c.index.TopicByID(id.Topic); ok {
		return t.Name
	}
	return id.Topic.String()
}
