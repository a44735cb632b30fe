package client

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// topic is what a producer knows of a topic.
type topic struct {
	name   string
	parts  atomic.Pointer[[]*partition]
	limit  atomic.Int64 // max.message.bytes
	sticky atomic.Int32 // partition of records without a key, until its batch is sealed
	loaded atomic.Int64 // Unix nanoseconds
	asking atomic.Bool
}

// topic returns what is known of a topic, asking the server the first time. Old knowledge is renewed in the background.
func (p *Producer) topic(ctx context.Context, name string) (*topic, error) {
	if p.closed.Load() {
		return nil, ErrClosed
	}
	v, ok := p.topics.Load(name)
	if !ok {
		if err := p.load(ctx, name, false); err != nil {
			return nil, err
		}
		if v, ok = p.topics.Load(name); !ok {
			return nil, ErrClosed
		}
	}
	return v.(*topic), nil //nolint:errcheck,forcetypeassert // the map holds nothing else
}

// renew asks again about a topic that was asked about long ago.
func (p *Producer) renew(t *topic, now time.Time) {
	if now.UnixNano()-t.loaded.Load() < int64(metadataAge) || !t.asking.CompareAndSwap(false, true) {
		return
	}
	p.loops.Go(func() {
		defer t.asking.Store(false)
		ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
		defer cancel()
		if err := p.load(ctx, t.name, true); err != nil {
			p.c.log.Warn("renew metadata of a topic", "topic", t.name, "error", err)
			t.loaded.Store(now.UnixNano()) // what is known still serves; do not ask with every record
		}
	})
}

// load asks the server about a topic, one question at a time, and gets the producer's id with the first.
func (p *Producer) load(ctx context.Context, name string, again bool) error {
	select {
	case p.loading <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ctx.Done():
		return ErrClosed
	}
	defer func() { <-p.loading }()
	known, ok := p.topics.Load(name)
	if ok && !again {
		return nil
	}
	info, _, err := p.c.GetTopic(ctx, name)
	if err != nil {
		return err
	}
	if info.GetPartitions() < 1 {
		return refused(connect.CodeInternal, ReasonUnknownTopic, "the server says that topic %s has no partitions", name)
	}
	p.mu.Lock()
	needID := p.idempotent && !p.hasID
	p.mu.Unlock()
	if needID {
		r, err := p.initProducer(ctx)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.hasID, p.id, p.epoch = true, r.GetProducerId(), int16(r.GetProducerEpoch())
		p.mu.Unlock()
	}
	t := &topic{name: name}
	var parts []*partition
	if ok {
		t = known.(*topic) //nolint:errcheck,forcetypeassert // the map holds nothing else
		parts = append(parts, *t.parts.Load()...)
	} else {
		t.sticky.Store(int32(p.c.randomBelow(int64(info.GetPartitions()))))
	}
	p.mu.Lock()
	if !ok {
		p.followed = append(p.followed, p.c.follow(name))
	}
	for n := int32(len(parts)); n < info.GetPartitions(); n++ {
		parts = append(parts, &partition{topic: t, id: n, pid: p.id, epoch: p.epoch, route: route{viaEpoch: noEpoch, tried: noEpoch}})
	}
	p.mu.Unlock()
	limit, err := strconv.ParseInt(info.GetConfig()[maxMessageKey], 10, 64)
	if err != nil || limit <= 0 {
		limit = 1 << 20
	}
	t.limit.Store(limit)
	t.parts.Store(&parts)
	t.loaded.Store(p.c.clock.Now().UnixNano())
	p.topics.Store(name, t)
	return nil
}

// initProducer gets a producer id.
func (p *Producer) initProducer(ctx context.Context) (*tidemarkv1.InitProducerResponse, error) {
	return ask(ctx, p.c, true, func(e *endpoint) (*tidemarkv1.InitProducerResponse, error) {
		return e.produce.InitProducer(ctx, &tidemarkv1.InitProducerRequest{})
	})
}

// grown has a topic asked about again when the metadata show more partitions than are known here.
func (p *Producer) grown() {
	p.topics.Range(func(_, v any) bool {
		t := v.(*topic) //nolint:errcheck,forcetypeassert // the map holds nothing else
		if n, _, ok := p.c.partitions(t.name); ok && int(n) > len(*t.parts.Load()) {
			t.loaded.Store(0)
		}
		return true
	})
}
