package tail

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/record"
)

// drift makes values whose fields come, change and go.
type drift struct{ random *rand.Rand }

func (d drift) scalar(stage int) string {
	switch d.random.IntN(7) {
	case 0:
		return fmt.Sprintf("%d.5", d.random.IntN(100))
	case 1:
		return `"text"`
	case 2:
		return "true"
	case 3:
		return "null"
	case 4:
		return "99999999999999999999" // above BIGINT: a DOUBLE one day, or never
	default:
		return fmt.Sprint(d.random.IntN(1000) + stage)
	}
}

func (d drift) value(stage int) string {
	var fields []string
	for f := range 2 + stage {
		if d.random.IntN(3) == 0 {
			continue
		}
		name := fmt.Sprintf("f%d", f)
		switch {
		case f%5 == 3:
			fields = append(fields, fmt.Sprintf(`%q:{"in%d":%s}`, name, d.random.IntN(stage+1), d.scalar(stage)))
		case f%5 == 4:
			fields = append(fields, fmt.Sprintf(`%q:[%s,%s]`, name, d.scalar(stage), d.scalar(stage)))
		case stage < 3 || d.random.IntN(200) > 0:
			fields = append(fields, fmt.Sprintf(`%q:%d`, name, d.random.IntN(1000)))
		default:
			fields = append(fields, fmt.Sprintf(`%q:%s`, name, d.scalar(stage)))
		}
	}
	switch d.random.IntN(400) {
	case 0:
		return "not JSON"
	case 1:
		return `{"F0":1,"f0":2,"_offset":"mine"}`
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// TestDrift: while fields come, widen, misfit and are overridden, by this node and by others, every snapshot shows every row as its own
// schema has it, also a snapshot that was taken long before. Once all stays in memory and once most is on disk.
func TestDrift(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			d := drift{random}
			w := newWorld(t, func(c *Config) {
				if seed%2 == 1 {
					c.Budget = 64 << 10
					c.runBytes = 32 << 10
				}
			})
			w.sample = 5
			w.log.create("drift", 2)
			var held []*Snapshot
			overrides := map[string]string{}
			for stage := range 7 {
				for range 1 + random.IntN(3) {
					values := make([]string, 1+random.IntN(600))
					for i := range values {
						values[i] = d.value(stage)
					}
					w.log.write("drift", int32(random.IntN(2)), values...)
					if random.IntN(2) == 0 {
						w.snapshot("drift").Release()
					}
				}
				var known *column.Schema
				switch random.IntN(4) {
				case 0:
					known = w.schemas.other("id-drift", func(s *column.Schema) *column.Schema {
						return discover(s, fmt.Sprintf(`{"other%d":1,"f1":0.5}`, stage))
					})
				case 1:
					overrides[fmt.Sprintf("f%d", random.IntN(stage+2))] = []string{"DOUBLE", "VARCHAR", "JSON", "BIGINT"}[random.IntN(4)]
					known = w.schemas.other("id-drift", func(s *column.Schema) *column.Schema {
						types, err := column.Overrides(overrides)
						if err != nil {
							t.Fatal(err)
						}
						return s.Override(types)
					})
				}
				s, err := w.store.Snapshot(t.Context(), w.log.topic("drift"), w.log.ends("drift"), known)
				if err != nil {
					t.Fatal(err)
				}
				if known != nil && s.Schema().Version < known.Version {
					t.Errorf("the snapshot's schema is of version %d, the caller knows %d", s.Schema().Version, known.Version)
				}
				w.check(s, "drift")
				if random.IntN(2) == 0 {
					held = append(held, s)
				} else {
					s.Release()
				}
			}
			last := w.snapshot("drift")
			w.misfits(last, "drift")
			if spilled := w.store.pool.number > 0; spilled != (seed%2 == 1) {
				t.Errorf("%d files were written", w.store.pool.number)
			}
			for _, s := range append(held, last) {
				w.check(s, "drift")
				s.Release()
			}
		})
	}
}

// misfits compares what Stats counts with what shredding all records under the newest schema gives.
func (w *world) misfits(s *Snapshot, topic string) {
	w.Helper()
	want := misfits{}
	for _, p := range w.partitions(topic) {
		rows := column.NewRows(w.mem, p.number)
		take := func() {
			raw := rows.Take()
			c, _ := column.Shred(w.mem, raw, s.Schema())
			want = want.add(c)
			c.Release()
			raw.Release()
		}
		for _, r := range p.records {
			if rows.Append(r); rows.Full() {
				take()
			}
		}
		if rows.Len() > 0 {
			take()
		}
		rows.Release()
	}
	got := misfits{}
	for _, m := range w.store.Stats()[0].Misfits {
		got[m.Column] = m
	}
	for name, m := range want {
		if g := got[name]; g.Rows != m.Rows {
			w.Errorf("column %q: %d misfits are counted, there are %d", name, g.Rows, m.Rows)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			w.Errorf("column %q has misfits that nobody else sees: %+v", name, got[name])
		}
	}
}

type partitionRecords struct {
	number  int32
	records []record.Record
}

func (w *world) partitions(topic string) []partitionRecords {
	all := w.log.records(topic)
	var out []partitionRecords
	for _, n := range slices.Sorted(maps.Keys(all)) {
		out = append(out, partitionRecords{n, all[n]})
	}
	return out
}

// TestMisfits: rows that do not fit their column are counted, and the first of them is named.
func TestMisfits(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 3)
	w.log.write("orders", 2, `{"a":1}`, `{"a":"x"}`, `{"a":2}`, `{"a":"y"}`)
	w.snapshot("orders").Release()
	w.log.write("orders", 1, `{"a":"z"}`)
	w.snapshot("orders").Release()
	got := w.store.Stats()[0]
	if len(got.Misfits) != 1 || got.Misfits[0] != (Misfit{Column: "a", Rows: 3, Partition: 2, Offset: 1}) || got.Rows != 5 {
		t.Errorf("%+v", got)
	}
	text := w.schemas.other("id-orders", func(s *column.Schema) *column.Schema { return s.Override(override(t, "a", "VARCHAR")) })
	s, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), nil, text)
	if err != nil {
		t.Fatal(err)
	}
	w.check(s, "orders")
	s.Release()
	if got := w.store.Stats()[0]; len(got.Misfits) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestRewrite: spilled runs are made anew from their files, with all that records may have.
func TestRewrite(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Budget = 1 << 20; c.runBytes = 64 << 10 })
	w.log.create("orders", 1)
	w.log.append("orders", 0,
		record.Record{Timestamp: -1},
		record.Record{Timestamp: 5, Key: []byte{}, Value: []byte{}},
		record.Record{Timestamp: 6, Key: []byte{0xff}, Value: []byte("\xff\xfe")},
		record.Record{Timestamp: -7, Value: []byte(`{"a":1}`), Headers: []record.Header{{Key: "h"}, {Key: "", Value: []byte{}}, {Key: "h", Value: []byte{1, 2}}}},
		record.Record{Timestamp: 1 << 62, Value: []byte("null")},
	)
	w.log.write("orders", 0, orders(0, 8000)...)
	before := w.snapshot("orders")
	if before.parts[0].run.file == nil {
		t.Fatal("the first run was not spilled")
	}
	s, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), nil, w.schemas.other("id-orders", func(s *column.Schema) *column.Schema {
		return s.Override(override(t, "amount", "VARCHAR"))
	}))
	if err != nil {
		t.Fatal(err)
	}
	w.check(s, "orders")
	w.check(before, "orders")
	before.Release()
	s.Release()
}

// TestSchemaTrouble: an etcd that is away is waited for, for some time; then the tail ends by name. The tail asks with the newest that is
// known of the topic.
func TestSchemaTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 1)
		w.log.write("orders", 0, order(1))
		away := errors.New("etcd is away")
		w.schemas.fail = []error{nil, away, away, away}
		topic := w.log.topic("orders")
		topic.Revision = 7
		s, err := w.store.Snapshot(t.Context(), topic, w.log.ends("orders"), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.check(s, "orders")
		s.Release()
		if last := w.schemas.topics[len(w.schemas.topics)-1]; last.Revision != 7 {
			t.Errorf("asked for %+v", last)
		}

		w.log.write("orders", 0, `{"new":1}`)
		w.schemas.fail = slices.Repeat([]error{away}, 2*mostExtends)
		_, err = w.store.Snapshot(t.Context(), topic, w.log.ends("orders"), nil)
		if !errors.Is(err, away) || !strings.Contains(err.Error(), `extend the columns of topic "orders"`) {
			t.Errorf("%v", err)
		}
		w.schemas.fail = []error{away}
		_, err = w.store.Snapshot(t.Context(), topic, w.log.ends("orders"), nil)
		if trouble, ok := errors.AsType[*SchemaError](err); !ok || trouble.Topic != "orders" {
			t.Errorf("%v", err)
		}
		if !errors.Is(err, away) || !strings.Contains(err.Error(), `load the columns of topic "orders"`) {
			t.Errorf("%v", err)
		}
		s = w.snapshot("orders")
		w.check(s, "orders")
		s.Release()
	})
}

// TestTopicGoneWhileExtending: a topic that is gone is not waited for.
func TestTopicGoneWhileExtending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.log.create("orders", 1)
		w.log.write("orders", 0, order(1))
		w.schemas.fail = []error{nil, fmt.Errorf("%w: orders was deleted", meta.ErrUnknownTopic)}
		begin := clock.System().Now()
		_, err := w.store.Snapshot(t.Context(), w.log.topic("orders"), w.log.ends("orders"), nil)
		if trouble, ok := errors.AsType[*SchemaError](err); !ok || trouble.Topic != "orders" || !errors.Is(trouble.Err, meta.ErrUnknownTopic) {
			t.Errorf("%v", err)
		}
		if took := clock.System().Now().Sub(begin); took != 0 || len(w.schemas.topics) != 1 {
			t.Errorf("it was tried %d times in %v", len(w.schemas.topics), took)
		}
	})
}

// TestOldVersionsAreForgotten: of a schema that changes again and again a tail knows the versions that its chunks are of, and no others.
func TestOldVersionsAreForgotten(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("orders", 1)
	for i := range 40 {
		w.log.write("orders", 0, fmt.Sprintf(`{"f%d":1}`, i))
		s := w.snapshot("orders")
		w.check(s, "orders")
		known := w.store.tails["id-orders"]
		if n := len(s.young) + 1; len(known.shapes) > n || len(known.mappings) > n || len(known.fitting) > 2*n {
			t.Fatalf("%d chunks, %d versions, %d mappings", len(s.young), len(known.shapes), len(known.mappings))
		}
		s.Release()
	}
}

// TestFullSchema: when a schema may not grow any more, what is new stays in _value, and the tail goes on.
func TestFullSchema(t *testing.T) {
	w := newWorld(t, nil)
	w.log.create("wide", 1)
	for i := range 6 {
		var fields []string
		for f := range 250 {
			fields = append(fields, fmt.Sprintf(`"f%d":1`, i*250+f))
		}
		w.log.write("wide", 0, "{"+strings.Join(fields, ",")+"}")
		s := w.snapshot("wide")
		w.check(s, "wide")
		if n := len(s.Schema().Fields); n != min(250*(i+1), column.MaxFields) {
			t.Errorf("%d fields", n)
		}
		s.Release()
	}
}
