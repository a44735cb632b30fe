package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
	"github.com/tidemark-io/tidemark/record"
)

// fakeRegistry is etcd as far as a catalog sees it.
type fakeRegistry struct {
	mu         sync.Mutex
	topic      meta.Topic
	gone       bool
	pointer    meta.Pointer
	swaps      int
	beforeSwap func()
}

func newFakeRegistry(t *testing.T, settings map[string]string) *fakeRegistry {
	t.Helper()
	id, err := meta.NewTopicID(rand.NewChaCha8([32]byte{3}))
	if err != nil {
		t.Fatal(err)
	}
	config, err := meta.ParseTopicConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeRegistry{topic: meta.Topic{Name: "orders", ID: id, Partitions: 1, Config: config, CreateRevision: 5, Revision: 5}}
}

func (r *fakeRegistry) GetTopic(_ context.Context, name string) (meta.Topic, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || name != r.topic.Name {
		return meta.Topic{}, meta.ErrUnknownTopic
	}
	return r.topic, nil
}

func (r *fakeRegistry) ListTopics(context.Context) ([]meta.Topic, error) {
	return []meta.Topic{r.topic}, nil
}

func (r *fakeRegistry) TopicSchema(context.Context, meta.TopicID) (meta.Pointer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pointer, nil
}

func (r *fakeRegistry) SwapTopicSchema(_ context.Context, _ meta.Topic, from meta.Revision, value []byte) (meta.Pointer, error) {
	if r.beforeSwap != nil {
		r.beforeSwap()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.gone:
		return meta.Pointer{}, meta.ErrUnknownTopic
	case r.pointer.Revision != from:
		return r.pointer, meta.ErrPointerMoved
	}
	r.swaps++
	r.pointer = meta.Pointer{Value: value, Revision: max(10, from+1)}
	return r.pointer, nil
}

// discover is what a value shows beyond a schema.
func discover(t *testing.T, s *column.Schema, value string) *column.Discovery {
	t.Helper()
	rows := column.NewRows(memory.DefaultAllocator, 0)
	rows.Append(record.Record{Value: []byte(value)})
	raw := rows.Take()
	defer raw.Release()
	chunk, d := column.Shred(memory.DefaultAllocator, raw, s)
	chunk.Release()
	return d
}

func names(s *column.Schema) string {
	out := ""
	for _, f := range s.Fields {
		out += f.Name + ":" + f.Type.String() + " "
	}
	return out
}

func (r *fakeRegistry) tailTopic() tail.Topic {
	return tail.Topic{ID: r.topic.ID.String(), Name: r.topic.Name, Partitions: 1}
}

// TestColumnsGrowByTheirOwnOrder: two nodes that find different columns at the same time agree on all of them in the end.
func TestColumnsGrowByTheirOwnOrder(t *testing.T) {
	r := newFakeRegistry(t, nil)
	one, other := newCatalog(r), newCatalog(r)
	ctx := t.Context()
	s, err := one.Load(ctx, r.tailTopic())
	if err != nil || s != column.Empty || r.swaps != 0 {
		t.Fatal(s, err)
	}
	r.beforeSwap = func() {
		r.beforeSwap = nil
		if _, err := other.Extend(ctx, r.tailTopic(), column.Empty, discover(t, column.Empty, `{"b":1.5}`)); err != nil {
			t.Error(err)
		}
	}
	s, err = one.Extend(ctx, r.tailTopic(), column.Empty, discover(t, column.Empty, `{"a":1}`))
	if err != nil || names(s) != "b:DOUBLE a:BIGINT " || r.swaps != 2 {
		t.Fatalf("%s after %d swaps, %v", names(s), r.swaps, err)
	}
	seen, err := other.Schema(ctx, r.topic)
	if err != nil || names(seen) != names(s) || seen.Version != s.Version {
		t.Errorf("the other sees %s, %v", names(seen), err)
	}
	if again, _ := other.Schema(ctx, r.topic); again != seen {
		t.Error("a schema that did not change was decoded twice")
	}
	if _, err := one.Extend(ctx, r.tailTopic(), s, discover(t, column.Empty, `{"a":2}`)); err != nil || r.swaps != 2 {
		t.Errorf("nothing new was stored: %d swaps, %v", r.swaps, err)
	}
}

// TestSettingsChooseTypes: what a topic's settings say of its columns is stored by whoever sees it first, and by nobody again.
func TestSettingsChooseTypes(t *testing.T) {
	r := newFakeRegistry(t, map[string]string{"column.amount": "DOUBLE"})
	c := newCatalog(r)
	old := r.topic
	old.Config = meta.DefaultTopicConfig()
	for range 3 {
		s, err := c.Schema(t.Context(), r.topic)
		if err != nil || names(s) != "amount:DOUBLE " {
			t.Fatal(names(s), err)
		}
	}
	// A query that read the topic before the setting was made does not undo it.
	if s, err := c.Schema(t.Context(), old); err != nil || names(s) != "amount:DOUBLE " {
		t.Error(names(s), err)
	}
	if r.swaps != 1 {
		t.Errorf("%d swaps", r.swaps)
	}
}

func TestColumnsOfATopicThatIsGone(t *testing.T) {
	r := newFakeRegistry(t, nil)
	c := newCatalog(r)
	d := discover(t, column.Empty, `{"a":1}`)
	r.beforeSwap = func() { r.gone = true }
	if _, err := c.Extend(t.Context(), r.tailTopic(), column.Empty, d); !errors.Is(err, meta.ErrUnknownTopic) {
		t.Error("deleted at the swap:", err)
	}
	if _, err := c.Load(t.Context(), r.tailTopic()); !errors.Is(err, meta.ErrUnknownTopic) {
		t.Error("deleted before:", err)
	}
	r.gone, r.beforeSwap = false, nil
	if _, err := c.Load(t.Context(), tail.Topic{ID: fmt.Sprintf("%032x", 7), Name: "orders"}); !errors.Is(err, meta.ErrUnknownTopic) {
		t.Error("made again:", err)
	}
	r.pointer = meta.Pointer{Value: []byte{99}, Revision: 3}
	_, err := c.Schema(t.Context(), r.topic)
	if reasonOf(schemaError("orders", err)) != ReasonCorruptData {
		t.Error("columns of a later release:", err)
	}
}
