package query

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
)

// world is topics with their logs and the tail over them.
type world struct {
	mu        sync.Mutex
	topics    map[string]meta.Topic
	schemas   map[meta.TopicID]*column.Schema
	ends      map[string]map[int32]int64 // by topic id
	rows      map[string][]string        // values, by topic id
	changed   chan struct{}
	snapshots int // not released
	lists     int
	endsErr   error
	tailErr   error
	misfits   []tail.Misfit
	slowTail  bool // nothing that is asked for is reached
	waiting   int  // calls of Snapshot that wait
	asked     int  // calls of Snapshot

	beforeEnd      func(name string)
	beforeSchema   func(t meta.Topic) error
	beforeSnapshot func() error
}

func newWorld(names ...string) *world {
	w := &world{
		topics: map[string]meta.Topic{}, schemas: map[meta.TopicID]*column.Schema{}, ends: map[string]map[int32]int64{}, rows: map[string][]string{},
		changed: make(chan struct{}),
	}
	for _, n := range names {
		w.create(n, 2)
	}
	return w
}

var ids = rand.NewChaCha8([32]byte{1})

func (w *world) create(name string, partitions int32) meta.Topic {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := meta.NewTopicID(ids)
	if err != nil {
		panic(err)
	}
	t := meta.Topic{Name: name, ID: id, Partitions: partitions, Config: meta.DefaultTopicConfig(), Created: time.UnixMilli(1_800_000_000_000)}
	w.topics[name] = t
	w.ends[id.String()] = map[int32]int64{}
	for n := range partitions {
		w.ends[id.String()][n] = 0
	}
	return t
}

// produce appends values to partition 0.
func (w *world) produce(name string, values ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.topics[name].ID.String()
	w.rows[id] = append(w.rows[id], values...)
	w.ends[id][0] += int64(len(values))
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) Topic(_ context.Context, name string) (meta.Topic, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := meta.ValidateTopicName(name); err != nil {
		return meta.Topic{}, err
	}
	t, found := w.topics[name]
	if !found {
		return t, fmt.Errorf("%w: %q", meta.ErrUnknownTopic, name)
	}
	return t, nil
}

func (w *world) List(context.Context) ([]meta.Topic, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lists++
	var out []meta.Topic
	for _, n := range slices.Sorted(maps.Keys(w.topics)) {
		out = append(out, w.topics[n])
	}
	return out, nil
}

func (w *world) topicSchema(t meta.Topic) *column.Schema {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.schemas[t.ID]; s != nil {
		return s
	}
	return column.Empty
}

func (w *world) Schema(_ context.Context, t meta.Topic) (*column.Schema, error) {
	if w.beforeSchema != nil {
		if err := w.beforeSchema(t); err != nil {
			return nil, err
		}
	}
	return w.topicSchema(t), nil
}

func (w *world) EndOffsets(_ context.Context, name, id string) (map[int32]int64, error) {
	if w.beforeEnd != nil {
		w.beforeEnd(name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.endsErr != nil {
		return nil, w.endsErr
	}
	ends, found := w.ends[id]
	if t := w.topics[name]; !found || t.ID.String() != id {
		return nil, &client.Error{Code: connect.CodeNotFound, Reason: client.ReasonUnknownTopic, Message: "gone"}
	}
	return maps.Clone(ends), nil
}

func (w *world) GetTopic(_ context.Context, name string) (*tidemarkv1.Topic, []*tidemarkv1.PartitionState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[name]
	var states []*tidemarkv1.PartitionState
	for n := range t.Partitions {
		end := w.ends[t.ID.String()][n]
		states = append(states, &tidemarkv1.PartitionState{Partition: n, Leader: "node-1", LeaderEpoch: 3, HighWatermark: end, CommittedOffset: end, LogEndOffset: end})
	}
	return &tidemarkv1.Topic{Name: name}, states, nil
}

func (w *world) Stats() []tail.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []tail.Stats
	for id := range w.rows {
		out = append(out, tail.Stats{TopicID: id, Memory: 10, Misfits: w.misfits})
	}
	return out
}

func (w *world) Snapshot(ctx context.Context, t meta.Topic, atLeast map[int32]int64, schema *column.Schema) (snapshot, error) {
	if w.beforeSnapshot != nil {
		if err := w.beforeSnapshot(); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	for {
		w.mu.Lock()
		changed := w.changed
		if err := w.tailErr; err != nil {
			w.mu.Unlock()
			return nil, err
		}
		ends := w.ends[t.ID.String()]
		reached := !w.slowTail
		for n, at := range atLeast {
			reached = reached && ends[n] >= at
		}
		if reached {
			b := newTableBuilder(memory.DefaultAllocator, columnsOf("_partition", int32Type, "_offset", int64Type, "_value", textType))
			for i, v := range w.rows[t.ID.String()] {
				b.row(int32(0), int64(i), v)
			}
			w.snapshots++
			out := &fakeSnapshot{memoryTable: b.finish(), world: w, at: maps.Clone(ends), schema: schema}
			w.mu.Unlock()
			return out, nil
		}
		lag := &tail.LagError{Topic: t.Name}
		for n, at := range atLeast {
			if w.slowTail {
				lag.Partitions = append(lag.Partitions, tail.Lag{Partition: n, Reached: 0, Wanted: at})
			} else if ends[n] < at {
				lag.Partitions = append(lag.Partitions, tail.Lag{Partition: n, Reached: ends[n], Wanted: at})
			}
		}
		w.waiting++
		w.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", lag, context.Cause(ctx))
		}
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

type fakeSnapshot struct {
	*memoryTable

	world  *world
	at     map[int32]int64
	schema *column.Schema
}

func (s *fakeSnapshot) Position() map[int32]int64 { return s.at }

func (s *fakeSnapshot) Columns() *column.Schema { return s.schema }

func (s *fakeSnapshot) Release() {
	s.memoryTable.Release()
	s.world.mu.Lock()
	s.world.snapshots--
	s.world.mu.Unlock()
}
