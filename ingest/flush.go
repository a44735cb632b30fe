package ingest

import (
	"fmt"
	"time"
)

// flusher is the step machine that decides when a new L0 object is cut. It does no I/O and holds no clock: events say what
// time it is.
//
// A cut is due when flushBytes have gathered, when the oldest batch whose ack or readers wait for the object has waited
// interval, when the oldest batch of any kind has waited idleInterval, or when somebody asks for it. No more than
// maxUploads objects are on their way to the store; while there are, batches gather, and the next cuts follow as slots free
// up. One cut holds at most flushBytes and one batch, so that the memory of uploads is bounded by maxUploads of them.
//
//	gathered: bytes appended and not cut        oldestObject <= oldestAny in urgency, each zero when there is none
type flusher struct {
	settings flushSettings

	gathered     int64
	uploads      int
	oldestAny    time.Time
	oldestObject time.Time
	forced       bool
}

// flushSettings are the constants of a node's flusher.
type flushSettings struct {
	bytes        int64         // flush.bytes
	interval     time.Duration // flush.interval
	idleInterval time.Duration // for batches acknowledged on disk already
	maxUploads   int
}

// flushEvent is what can happen to a flusher.
type flushEvent interface{ isFlushEvent() }

type (
	// gatheredBatch: a batch was appended.
	gatheredBatch struct {
		bytes       int
		waitsObject bool
		now         time.Time
	}
	// cutTaken: the node has cut an object; left is what stays behind, with the age of its oldest batches.
	cutTaken struct {
		left                    int64
		oldestAny, oldestObject time.Time
	}
	// uploadEnded: an upload slot is free.
	uploadEnded struct{}
	// flushForced: everything gathered must go now.
	flushForced struct{}
	// flushTick: time has passed.
	flushTick struct{}
)

func (gatheredBatch) isFlushEvent() {}
func (cutTaken) isFlushEvent()      {}
func (uploadEnded) isFlushEvent()   {}
func (flushForced) isFlushEvent()   {}
func (flushTick) isFlushEvent()     {}

// Step applies one event.
func (f *flusher) Step(event flushEvent) {
	switch e := event.(type) {
	case gatheredBatch:
		f.gathered += int64(e.bytes)
		if f.oldestAny.IsZero() {
			f.oldestAny = e.now
		}
		if e.waitsObject && f.oldestObject.IsZero() {
			f.oldestObject = e.now
		}
	case cutTaken:
		f.uploads++
		f.gathered, f.oldestAny, f.oldestObject = e.left, e.oldestAny, e.oldestObject
		if f.gathered == 0 {
			f.forced = false
		}
	case uploadEnded:
		f.uploads--
		if f.uploads < 0 {
			panic("flusher: more uploads ended than began")
		}
	case flushForced:
		f.forced = f.gathered > 0
	case flushTick:
	default:
		panic(fmt.Sprintf("flusher: unknown event %T", event))
	}
}

// due tells whether to cut now, and if not, when to ask again; a zero time means after the next event.
func (f *flusher) due(now time.Time) (bool, time.Time) {
	if f.gathered == 0 || f.uploads >= f.settings.maxUploads {
		return false, time.Time{}
	}
	if f.forced || f.gathered >= f.settings.bytes {
		return true, time.Time{}
	}
	deadline := f.oldestAny.Add(f.settings.idleInterval)
	if !f.oldestObject.IsZero() {
		if d := f.oldestObject.Add(f.settings.interval); d.Before(deadline) {
			deadline = d
		}
	}
	if !now.Before(deadline) {
		return true, time.Time{}
	}
	return false, deadline
}
