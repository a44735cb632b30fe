package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// freshnessReport says how soon an answer covers what was acknowledged.
type freshnessReport struct {
	TargetRate       float64 `json:"target_records_per_second"`
	RecordsPerSecond float64 `json:"records_per_second"`
	Seconds          float64 `json:"seconds"`
	Queries          int64   `json:"queries"`
	Acknowledgements int64   `json:"acknowledgements"`
	// Visible is from each acknowledgement to the first answer that covers it, whatever question was under way meanwhile.
	Visible latencyReport `json:"visible_after_ack"`
}

// visibility measures how long each acknowledgement waits for an answer that covers it. Its methods may be called from any goroutine.
type visibility struct {
	mu      sync.Mutex
	waiting map[int32][]ackedAt // by partition, offsets rise
	covered map[int32]int64     // by partition, the end of what was answered
	samples *hdrhistogram.Histogram
}

type ackedAt struct {
	offset int64
	at     time.Time
}

func newVisibility() *visibility {
	return &visibility{waiting: map[int32][]ackedAt{}, covered: map[int32]int64{}, samples: newLatencies()}
}

// acked says that a record was acknowledged. One that an answer had covered before waits no time.
func (v *visibility) acked(k acked, at time.Time) {
	if k.err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if k.offset < v.covered[k.partition] {
		recordLatency(v.samples, 0)
		return
	}
	v.waiting[k.partition] = append(v.waiting[k.partition], ackedAt{k.offset, at})
}

// answered says that an answer covers everything below the offsets.
func (v *visibility) answered(offsets map[int32]int64, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for partition, end := range offsets {
		v.covered[partition] = max(v.covered[partition], end)
		waiting := v.waiting[partition]
		for len(waiting) > 0 && waiting[0].offset < end {
			recordLatency(v.samples, at.Sub(waiting[0].at))
			waiting = waiting[1:]
		}
		v.waiting[partition] = waiting
	}
}

// ackedPosition is what a producer's records have come to. Its methods may be called from any goroutine.
type ackedPosition struct {
	topic string

	mu      sync.Mutex
	offsets map[int32]int64
	count   int64
	err     error
}

func (p *ackedPosition) done(k acked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case k.err != nil && p.err == nil:
		p.err = k.err
	case k.err == nil:
		if p.offsets == nil {
			p.offsets = map[int32]int64{}
		}
		p.offsets[k.partition] = max(p.offsets[k.partition], k.offset+1)
		p.count++
	}
}

func (p *ackedPosition) records() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

func (p *ackedPosition) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *ackedPosition) position() []client.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.offsets) == 0 {
		return nil
	}
	return []client.Position{{Topic: p.topic, Offsets: maps.Clone(p.offsets)}}
}

// orders generates the records of the benchmark, the same in every run. Not safe for concurrent use.
type orders struct {
	state uint64
	n     int
	buf   []byte
}

func newOrders() *orders { return &orders{state: 0x9e3779b97f4a7c15} }

func (o *orders) random(below uint64) uint64 {
	o.state ^= o.state << 13
	o.state ^= o.state >> 7
	o.state ^= o.state << 17
	return (o.state >> 16) % below
}

// next makes the next order, of about 200 bytes. Its bytes are valid until the following call.
func (o *orders) next() (customer, value []byte) {
	o.n++
	id := o.random(50_000)
	id = o.random(id + 1) // few customers order much
	customer = fmt.Appendf(nil, "c%05d", id)
	cents := o.random(50_000) + 100
	seconds := o.n / 100 // a hundred orders a second, from noon on
	o.buf = fmt.Appendf(o.buf[:0], `{"order_id":"o%09d","customer":"%s","region":"%s","amount":%d.%02d,"quantity":%d,"status":"%s","express":%t,"ts":"2026-11-%02dT%02d:%02d:%02dZ","note":"`,
		o.n, customer, demoRegions[o.random(uint64(len(demoRegions)))], cents/100, cents%100, 1+o.random(9), demoStates[o.random(uint64(len(demoStates)))],
		o.random(5) == 0, 1+seconds/86400%30, seconds/3600%24, seconds/60%60, seconds%60)
	for range 12 + o.random(16) {
		o.buf = append(o.buf, byte('a'+o.random(26)))
	}
	return customer, append(o.buf, `"}`...)
}

// fillOrders produces n orders and waits for their answers.
func (a *app) fillOrders(ctx context.Context, topic string, n int64, acks *ackedPosition) (bytes int64, err error) {
	p, err := a.newProducer(ctx, producerOptions{topic: topic, acks: tidemarkv1.Acks_ACKS_ALL, compression: "none"})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
	begin := a.clock.Now()
	endProgress := a.progress(func() string {
		done := acks.records()
		return fmt.Sprintf("%d of %d records produced, %.0f records/s", done, n, float64(done)/a.clock.Now().Sub(begin).Seconds())
	})
	defer endProgress()
	source := newOrders()
	for range n {
		m := message{partition: -1}
		m.key, m.value = source.next()
		bytes += int64(m.size())
		if err := p.produce(ctx, &m, acks.done); err != nil {
			return bytes, err
		}
		if err := acks.failure(); err != nil {
			return bytes, err
		}
	}
	return bytes, errors.Join(p.flush(ctx), acks.failure())
}

// measureFreshness lets records come in, and asks for what was just acknowledged. others are the records of the topic that acks does
// not count.
func (a *app) measureFreshness(ctx context.Context, c *client.Client, f *benchQueryFlags, topic, count string, others int64, acks *ackedPosition) (*freshnessReport, error) {
	p, err := a.newProducer(ctx, producerOptions{topic: topic, acks: tidemarkv1.Acks_ACKS_ALL, compression: "none"})
	if err != nil {
		return nil, doing(err, "start the producer")
	}
	report, visible := &freshnessReport{TargetRate: f.rate}, newVisibility()
	done := func(k acked) {
		visible.acked(k, a.clock.Now()) // first: once acks has it, an answer may tell of it
		acks.done(k)
	}
	ask := func() error {
		acknowledged, position := others+acks.records(), acks.position()
		answer, err := a.timeQuery(ctx, c, count, client.QueryOptions{AtLeast: position})
		if err != nil {
			return doing(err, "ask for what was acknowledged")
		}
		if answer.number < acknowledged {
			return missingRecords(answer.number, acknowledged)
		}
		now := a.clock.Now()
		for _, p := range append(position, answer.covers...) {
			if p.Topic == topic {
				visible.answered(p.Offsets, now)
			}
		}
		report.Queries++
		return nil
	}
	before, begin := acks.records(), a.clock.Now()
	run, cancel := context.WithTimeoutCause(ctx, f.duration, errBenchDone)
	defer cancel()
	group, run := errgroup.WithContext(run)
	group.Go(func() error { return doing(a.produceOrders(ctx, run, p, f.rate, acks, done), "produce to %q", topic) })
	group.Go(func() error {
		// One question behind the other, so that an answer that takes long shows in everything that was acknowledged meanwhile.
		for run.Err() == nil {
			if err := ask(); err != nil {
				return err
			}
		}
		return benchEnded(run)
	})
	err = group.Wait()
	elapsed := a.clock.Now().Sub(begin)
	if closeErr := p.close(context.WithoutCancel(ctx)); err == nil {
		err = doing(closeErr, "produce to %q", topic)
	}
	if err == nil {
		err = ask() // covers what was acknowledged last
	}
	report.Seconds = elapsed.Seconds()
	report.RecordsPerSecond = float64(acks.records()-before) / report.Seconds
	report.Acknowledgements = visible.samples.TotalCount()
	report.Visible = reportLatencies(visible.samples)
	return report, err
}

// produceOrders sends orders at a rate until run is done, and waits for the answers, which done hears and hands on to acks; only ctx
// ends the waiting.
func (a *app) produceOrders(ctx, run context.Context, p producer, rate float64, acks *ackedPosition, done func(acked)) error {
	source, begin := newOrders(), a.clock.Now()
	for i := 0; run.Err() == nil; i++ {
		due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := due.Sub(a.clock.Now()); wait >= timerSlack {
			t := a.clock.NewTimer(wait)
			select {
			case <-t.C():
			case <-run.Done():
				t.Stop()
				continue
			}
		}
		m := message{partition: -1}
		m.key, m.value = source.next()
		if err := p.produce(run, &m, done); err != nil && run.Err() == nil {
			return err
		}
		if err := acks.failure(); err != nil {
			return err
		}
	}
	return errors.Join(benchEnded(run), p.flush(ctx), acks.failure())
}

// benchEnded is nil when the time was up, and otherwise says what ended the run.
func benchEnded(run context.Context) error {
	if cause := context.Cause(run); !errors.Is(cause, errBenchDone) {
		return cause
	}
	return nil
}

func missingRecords(has, want int64) error {
	return fail(exitFailed, "this is a bug: please report it with the version and the server's log", "an answer covers %d records where %d were acknowledged before the question", has, want)
}

// firstInteger is the first value of a record, 0 when it is no BIGINT.
func firstInteger(rec arrow.Record) int64 {
	if rec.NumCols() == 0 {
		return 0
	}
	col, ok := rec.Column(0).(*array.Int64)
	if !ok || col.Len() == 0 || col.IsNull(0) {
		return 0
	}
	return col.Value(0)
}
