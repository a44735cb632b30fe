package meta_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// TestTopicSchema: of two nodes that extend the same columns one wins, and the other learns what it won with.
func TestTopicSchema(t *testing.T) {
	c := newClient(t, newStore())
	topic := makeTopic(t, c, "t", 1)
	swap := func(from meta.Revision, value string) (meta.Pointer, error) {
		return c.SwapTopicSchema(t.Context(), topic, from, []byte(value))
	}
	none, err := c.TopicSchema(t.Context(), topic.ID)
	if err != nil || none.Revision != 0 || none.Value != nil {
		t.Fatalf("before the first: %+v, %v", none, err)
	}
	one, err := swap(none.Revision, "1")
	if err != nil {
		t.Fatal(err)
	}
	if lost, err := swap(none.Revision, "1 of another"); !errors.Is(err, meta.ErrPointerMoved) || string(lost.Value) != "1" || lost.Revision != one.Revision {
		t.Fatalf("who came late: %+v, %v", lost, err)
	}
	if _, err := c.AlterTopic(t.Context(), "t", map[string]string{"durability": "disk"}); err != nil {
		t.Fatal(err)
	}
	two, err := swap(one.Revision, "2") // a topic that was altered is the same topic
	if err != nil {
		t.Fatal(err)
	}
	if now, err := c.TopicSchema(t.Context(), topic.ID); err != nil || string(now.Value) != "2" || now.Revision != two.Revision {
		t.Fatalf("now: %+v, %v", now, err)
	}
}

// TestSchemaOfADeletedTopic: the columns go with their topic, whoever still extends them, and one of the same name begins with none.
func TestSchemaOfADeletedTopic(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	for _, stored := range []bool{false, true} {
		topic := makeTopic(t, c, "t", 1)
		var p meta.Pointer
		if stored {
			var err error
			if p, err = c.SwapTopicSchema(t.Context(), topic, 0, []byte("1")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		again := makeTopic(t, c, "t", 1)
		for _, from := range []meta.Revision{0, p.Revision} {
			if p, err := c.SwapTopicSchema(t.Context(), topic, from, []byte("2")); !errors.Is(err, meta.ErrUnknownTopic) || p.Revision != 0 {
				t.Errorf("stored before: %t, extended from %d: %+v, %v", stored, from, p, err)
			}
		}
		if strings.Contains(dump(t, store), "/schemas/") {
			t.Errorf("columns are left of a topic that was deleted:\n%s", dump(t, store))
		}
		if p, err := c.TopicSchema(t.Context(), again.ID); err != nil || p.Revision != 0 {
			t.Errorf("the new topic has columns: %+v, %v", p, err)
		}
		if _, err := c.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSchemaSwapInDoubt: a swap that arrives behind the deletion of its topic stores nothing.
func TestSchemaSwapInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		c := newClient(t, store)
		topic := makeTopic(t, c, "t", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		store.FailTxns(metafake.Delay)
		if _, err := c.SwapTopicSchema(ctx, topic, 0, []byte("late")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("no answer: %v", err)
		}
		if _, err := c.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		release(store)
		if p, err := c.TopicSchema(t.Context(), topic.ID); err != nil || p.Revision != 0 {
			t.Errorf("the late copy was stored: %+v, %v", p, err)
		}
	})
}

func TestGetAndListTopics(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	if topics, err := c.ListTopics(t.Context()); err != nil || len(topics) != 0 {
		t.Fatalf("no topics: %v, %v", topics, err)
	}
	b, a := makeTopic(t, c, "b", 2), makeTopic(t, c, "a", 1)
	topics, err := c.ListTopics(t.Context())
	if err != nil || len(topics) != 2 || topics[0].ID != a.ID || topics[1].ID != b.ID || topics[1].Partitions != 2 || topics[0].Name != "a" {
		t.Errorf("listed: %+v, %v", topics, err)
	}
	got, err := c.GetTopic(t.Context(), "b")
	if err != nil || got.ID != b.ID || got.CreateRevision != b.CreateRevision {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := c.GetTopic(t.Context(), "c"); !errors.Is(err, meta.ErrUnknownTopic) {
		t.Errorf("an unknown one: %v", err)
	}
	if _, err := c.GetTopic(t.Context(), "../b"); !errors.Is(err, meta.ErrInvalidTopic) {
		t.Errorf("an invalid one: %v", err)
	}
	if _, err := store.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp(c.Keys().Topic("x"), []byte(`{"v":2}`))}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListTopics(t.Context()); !errors.Is(err, meta.ErrFormat) {
		t.Errorf("one of a later release: %v", err)
	}
}

// TestColumnSettings: the types of columns are chosen, changed and taken back one by one, and come back from etcd.
func TestColumnSettings(t *testing.T) {
	c := newClient(t, newStore())
	topic := makeTopic(t, c, "t", 1)
	strange := "a \"b\"\n=ü\\"
	for _, step := range []struct {
		change map[string]string
		want   map[string]string
	}{
		{map[string]string{"column.amount": "DOUBLE", "column." + strange: "json"}, map[string]string{"amount": "DOUBLE", strange: "JSON"}},
		{map[string]string{"durability": "disk"}, map[string]string{"amount": "DOUBLE", strange: "JSON"}},
		{map[string]string{"column.amount": "bigint", "column.x": ""}, map[string]string{"amount": "BIGINT", strange: "JSON"}},
		{map[string]string{"column." + strange: ""}, map[string]string{"amount": "BIGINT"}},
		{map[string]string{"column.amount": ""}, map[string]string{}},
	} {
		altered, err := c.AlterTopic(t.Context(), "t", step.change)
		if err != nil {
			t.Fatal(err)
		}
		read, err := c.GetTopic(t.Context(), "t")
		if err != nil || read.Config != altered.Config || !maps.Equal(read.Config.Columns(), step.want) {
			t.Errorf("after %v: %v, %v", step.change, read.Config.Columns(), err)
		}
		settings := read.Config.Map()
		for name, typ := range step.want {
			if settings["column."+name] != typ {
				t.Errorf("after %v the settings are %v", step.change, settings)
			}
		}
		if len(settings) != 2+len(step.want) {
			t.Errorf("after %v the settings are %v", step.change, settings)
		}
	}
	if now, err := c.GetTopic(t.Context(), "t"); err != nil || now.Config.Columns() == nil || now.ID != topic.ID {
		t.Errorf("at the end: %+v, %v", now, err)
	}
	many := make(map[string]string)
	for i := range 100 {
		many[fmt.Sprintf("column.c%d", i)] = "JSON"
	}
	full, err := meta.ParseTopicConfig(many)
	if err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string]map[string]string{
		"a type that there is not": {"column.a": "INTEGER"}, "a nested type": {"column.a": "STRUCT(a INT)"}, "no name": {"column.": "JSON"},
		"a long name": {"column." + strings.Repeat("x", 257): "JSON"}, "no UTF-8": {"column.\xff": "JSON"}, "a NUL": {"column.a\x00": "JSON"}, "one too many": {"column.more": "JSON"},
		"another word": {"columns.a": "JSON"},
	} {
		got, err := full.With(settings)
		if !errors.Is(err, meta.ErrInvalidConfig) {
			t.Errorf("%s: %v, %v", name, got.Columns(), err)
		}
	}
	if same, err := full.With(map[string]string{"column.c7": "", "column.more": "JSON"}); err != nil || len(same.Columns()) != 100 {
		t.Errorf("one for another: %v", err)
	}
	_, err = full.With(map[string]string{"colum.a": "JSON"})
	for _, word := range []string{"durability", "max.message.bytes", "column.<name>", "BOOLEAN, BIGINT, DOUBLE, VARCHAR, JSON"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not tell of %s: %v", word, err)
		}
	}
}
