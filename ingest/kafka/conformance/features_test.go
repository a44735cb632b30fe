package conformance

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// trial is one client going through one story.
type trial struct {
	*testing.T

	client client
	server *process
	// reference reads what the client wrote where the story needs another Kafka client.
	reference *franz
	// name begins the names of topics and groups: each story has its own.
	name string
	// seat is the client's.
	seat seat
}

// hard are records that a reader may get wrong, as far as the client can write them.
func (t *trial) hard() []record {
	all := hard()
	for i := range all {
		if t.seat.writes != nil {
			all[i] = t.seat.writes(all[i])
		}
	}
	return all
}

// reads compares what the client reads with what is in the log.
func (t *trial) reads(got, want []record) {
	t.Helper()
	if t.seat.blur != nil {
		want = slices.Clone(want)
		for i := range want {
			want[i] = t.seat.blur(want[i])
		}
	}
	t.same("what it reads", got, want)
}

// feature is one row of the table and the story behind it.
type feature struct {
	id, title string
	run       func(*trial)
}

// storyPatience is how long one story may take, on a machine that does other things too.
const storyPatience = time.Minute

func features() []feature {
	all := []feature{
		{"topics", "create and delete topics", (*trial).topics},
		{"acks-all", "produce, `acks=all`", func(t *trial) { t.produces(producing{Acks: "all", Codec: "none"}) }},
		{"acks-1", "produce, `acks=1`", func(t *trial) { t.produces(producing{Acks: "1", Codec: "none"}) }},
		{"acks-0", "produce, `acks=0`", func(t *trial) { t.produces(producing{Acks: "0", Codec: "none"}) }},
		{"idempotent", "idempotent producer", func(t *trial) { t.produces(producing{Acks: "all", Codec: "none", Idempotent: true}) }},
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		title := "batches compressed with " + codec
		if codec == "none" {
			title = "batches that are not compressed"
		}
		all = append(all, feature{"codec-" + codec, title, func(t *trial) { t.compresses(codec) }})
	}
	return append(all,
		feature{"records", "records keep keys, NULLs, tombstones, headers and timestamps", (*trial).keeps},
		feature{"to-tidemark", "what it writes, Connect and SQL read", (*trial).isReadByOthers},
		feature{"from-tidemark", "what Connect writes, it reads", (*trial).readsOthers},
		feature{"partitioner", "keys go to the partitions that Kafka's rule says", (*trial).partitions},
		feature{"seek-time", "seek by time", (*trial).seeks},
		feature{"group", "group of two, rebalanced when one comes and when one goes", (*trial).rebalances},
		feature{"commit", "commit, leave, and go on from there", (*trial).resumes},
	)
}

func (t *trial) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), storyPatience)
}

func (t *trial) must(what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// topic makes the story's topic, by the command line.
func (t *trial) topic(ctx context.Context, partitions int) string {
	t.Helper()
	_, err := t.server.run(ctx, "", "topic", "create", t.name, "--partitions", fmt.Sprint(partitions))
	t.must("create the topic", err)
	return t.name
}

func (t *trial) topics() {
	ctx, cancel := t.context()
	defer cancel()
	const partitions = 3
	t.must("create a topic", t.client.createTopic(ctx, t.name, partitions))
	if err := t.client.createTopic(ctx, t.name, partitions); err == nil {
		t.Error("a topic was created twice")
	}
	described, err := t.server.run(ctx, "", "topic", "describe", t.name, "-o", "json")
	t.must("describe the topic", err)
	if n := strings.Count(described, `"high_watermark"`); n != partitions {
		t.Errorf("it has not %d partitions:\n%s", partitions, described)
	}
	t.must("delete the topic", t.client.deleteTopic(ctx, t.name))
	if list, err := t.server.run(ctx, "", "topic", "list", "-o", "json"); err != nil || strings.Contains(list, `"`+t.name+`"`) {
		t.Errorf("it is still listed: %v\n%s", err, list)
	}
	if err := t.client.deleteTopic(ctx, t.name); err == nil {
		t.Error("a topic was deleted twice")
	}
}

// plain makes n records, spread over partitions.
func plain(n, partitions int) []record {
	out := make([]record, n)
	for i := range out {
		out[i] = record{
			Partition: int32(i % partitions), Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d", i),
		}
	}
	return out
}

// inOrder sorts records as the log has them.
func inOrder(records []record) []record {
	out := slices.Clone(records)
	slices.SortFunc(out, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return out
}

// numbered gives records the offsets that they have when nobody else writes.
func numbered(records []record) {
	next := map[int32]int64{}
	for i := range records {
		records[i].Offset = next[records[i].Partition]
		next[records[i].Partition]++
	}
}

// same compares two readings of one topic.
func (t *trial) same(who string, got, want []record) {
	t.Helper()
	got, want = inOrder(got), inOrder(want)
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", who, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if g, w := show(got[i]), show(want[i]); g != w {
			t.Errorf("%s:\n got %s\nwant %s", who, g, w)
		}
	}
}

func show(r record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d at %d: key %s, value %s", r.Partition, r.Offset, r.Timestamp, showBytes(r.Key), showBytes(r.Value))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, ", header %q %s", h.Key, showBytes(h.Value))
	}
	return b.String()
}

func showBytes(b []byte) string {
	if b == nil {
		return "NULL"
	}
	return fmt.Sprintf("%q", b)
}

// produces sends records, twice, and reads them back.
func (t *trial) produces(how producing) {
	ctx, cancel := t.context()
	defer cancel()
	const partitions = 2
	topic := t.topic(ctx, partitions)
	sent := plain(40, partitions)
	told := slices.Clone(sent)
	once := 20
	if how.Acks == "0" {
		once = len(sent) // nobody keeps two producers in order that do not wait for answers
	}
	for some := range slices.Chunk(told, once) {
		t.must("produce", t.client.produce(ctx, topic, how, some))
	}
	numbered(sent)
	if how.Acks != "0" {
		t.same("what the acknowledgements say", told, sent)
	}
	got, err := t.client.consume(ctx, topic, partitions, len(sent))
	t.must("consume", err)
	t.reads(got, sent)
}

func (t *trial) compresses(codec string) {
	ctx, cancel := t.context()
	defer cancel()
	const partitions, n = 2, 200
	topic := t.topic(ctx, partitions)
	sent := plain(n, partitions)
	for i := range sent {
		sent[i].Value = bytes.Repeat(sent[i].Value, 20)
	}
	t.must("produce", t.client.produce(ctx, topic, producing{Acks: "all", Codec: codec}, sent))
	numbered(sent)
	got, err := t.client.consume(ctx, topic, partitions, n)
	t.must("consume", err)
	t.reads(got, sent)
	codecs, err := t.reference.codecs(ctx, topic, partitions, n)
	t.must("look at the batches", err)
	// A batch that does not get smaller may stay as it is.
	if codecs[codec] < n/2 {
		t.Errorf("the log has records in batches of %v", codecs)
	}
}

// hard are records that a reader may get wrong.
func hard() []record {
	all := []record{
		{Key: []byte("plain"), Value: []byte("text"), Timestamp: 1_700_000_000_123},
		{Key: nil, Value: []byte("no key"), Timestamp: 1_700_000_000_122},
		{Key: []byte{}, Value: []byte("an empty key"), Timestamp: 1},
		{Key: []byte("a tombstone"), Value: nil, Timestamp: 1_700_000_000_125},
		{Key: []byte("an empty value"), Value: []byte{}, Timestamp: 1_700_000_000_126},
		{Key: nil, Value: nil, Timestamp: 1_700_000_000_127},
		{Key: []byte{0xff, 0, 0x80}, Value: []byte{0, 1, 0xfe, 0xff, '\n'}, Timestamp: 4_102_444_800_000},
		{Key: []byte("schlüssel"), Value: []byte(`{"a":"é","b":1}`), Timestamp: 1_700_000_000_129},
		{Key: []byte("headers"), Value: []byte("v"), Timestamp: 1_700_000_000_130, Headers: []header{
			{"a", []byte("1")}, {"b", []byte("2")}, {"a", []byte("3")}, {"empty", []byte{}}, {"binary", []byte{0xff, 0}}, {"ключ", []byte("значение")},
		}},
		{Key: []byte("a NULL header"), Value: []byte("v"), Timestamp: 1_700_000_000_131, Headers: []header{{"null", nil}, {"", []byte("no name")}}},
	}
	for i := range all {
		all[i].Partition = int32(i % 2)
	}
	return all
}

func (t *trial) keeps() {
	ctx, cancel := t.context()
	defer cancel()
	topic := t.topic(ctx, 2)
	sent := t.hard()
	t.must("produce", t.client.produce(ctx, topic, producing{Acks: "all", Codec: "none"}, sent))
	numbered(sent)
	got, err := t.client.consume(ctx, topic, 2, len(sent))
	t.must("consume", err)
	t.reads(got, sent)
	got, err = t.reference.consume(ctx, topic, 2, len(sent))
	t.must("consume with another client", err)
	t.same("what another client reads", got, sent)
}

func (t *trial) isReadByOthers() {
	ctx, cancel := t.context()
	defer cancel()
	topic := t.topic(ctx, 2)
	sent := t.hard()
	t.must("produce", t.client.produce(ctx, topic, producing{Acks: "all", Codec: "lz4"}, sent))
	numbered(sent)
	got, err := t.server.byConnect(ctx, topic)
	t.must("read by Connect", err)
	t.same("what Connect reads", got, sent)
	got, err = t.server.bySQL(ctx, topic)
	t.must("read by SQL", err)
	t.same("what SQL reads", got, sent)
}

func (t *trial) readsOthers() {
	ctx, cancel := t.context()
	defer cancel()
	topic := t.topic(ctx, 2)
	sent := hard()
	t.must("write by Connect", t.server.writeByConnect(ctx, topic, sent))
	numbered(sent)
	got, err := t.client.consume(ctx, topic, 2, len(sent))
	t.must("consume", err)
	t.reads(got, sent)
}

// partitionOf is the rule of Kafka's Java client.
func partitionOf(key []byte, partitions int) int32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(key))
	b := key
	for ; len(b) >= 4; b = b[4:] {
		k := (uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24) * m
		k = (k ^ k>>24) * m
		h = h*m ^ k
	}
	for i := len(b) - 1; i >= 0; i-- {
		h ^= uint32(b[i]) << (8 * i)
	}
	if len(b) > 0 {
		h *= m
	}
	h = (h ^ h>>13) * m
	return int32((h ^ h>>15) & 0x7fffffff % uint32(partitions))
}

func (t *trial) partitions() {
	ctx, cancel := t.context()
	defer cancel()
	const partitions = 7
	topic := t.topic(ctx, partitions)
	sent := plain(100, partitions)
	sent[7].Key = []byte("ключ")
	t.must("produce", t.client.produce(ctx, topic, producing{Acks: "all", Codec: "none", ByKey: true}, sent))
	t.must("write by Connect", t.server.writeByKey(ctx, topic, sent))
	at := map[string]map[int32]int{}
	got, err := t.server.byConnect(ctx, topic)
	t.must("read", err)
	for _, r := range got {
		if at[string(r.Key)] == nil {
			at[string(r.Key)] = map[int32]int{}
		}
		at[string(r.Key)][r.Partition]++
	}
	for _, r := range sent {
		if want := partitionOf(r.Key, partitions); at[string(r.Key)][want] != 2 {
			t.Errorf("key %q: want it twice in partition %d, got %v", r.Key, want, at[string(r.Key)])
		}
	}
}

func (t *trial) seeks() {
	ctx, cancel := t.context()
	defer cancel()
	topic := t.topic(ctx, 1)
	sent := plain(20, 1)
	for i := range sent {
		sent[i].Timestamp = 1_700_000_000_000 + 1000*int64(i)
	}
	for half := range slices.Chunk(sent, 10) {
		t.must("produce", t.client.produce(ctx, topic, producing{Acks: "all", Codec: "none"}, half))
	}
	numbered(sent)
	for at, want := range map[int64]int{1_600_000_000_000: 0, 1_700_000_000_000: 0, 1_700_000_005_000: 5, 1_700_000_005_001: 6, 1_700_000_012_999: 13} {
		got, err := t.client.seek(ctx, topic, 0, at)
		t.must("seek", err)
		t.same(fmt.Sprintf("the first record since %d", at), []record{got}, sent[want:want+1])
	}
}

// writeByKey writes records with the command line, which chooses their partitions.
func (p *process) writeByKey(ctx context.Context, topic string, records []record) error {
	var lines strings.Builder
	for _, r := range records {
		fmt.Fprintf(&lines, "{\"key\":%q,\"value\":%q}\n", r.Key, r.Value)
	}
	_, err := p.run(ctx, lines.String(), "produce", topic, "-f", "json")
	return err
}
