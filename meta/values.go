package meta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// valueVersion is the version of every JSON value. Another is refused: a release that does not know what a value means must
// not act on it.
const valueVersion = 1

// The JSON values, as etcdctl shows them.
type (
	clusterValue struct {
		Version    int    `json:"v"`
		ID         string `json:"id"`
		Generation int64  `json:"generation"`
		Created    string `json:"created"`
		Recovering bool   `json:"recovering,omitempty"`
	}
	topicValue struct {
		Version    int               `json:"v"`
		ID         string            `json:"id"`
		Partitions int32             `json:"partitions"`
		Config     map[string]string `json:"config"`
		Created    string            `json:"created"`
		Held       bool              `json:"held,omitempty"`
	}
	deletedValue struct {
		Version    int    `json:"v"`
		Name       string `json:"name"`
		Partitions int32  `json:"partitions"`
	}
	nodeValue struct {
		Version     int      `json:"v"`
		Incarnation string   `json:"incarnation"`
		Disk        string   `json:"disk"`
		HTTP        string   `json:"http,omitempty"`
		Kafka       string   `json:"kafka,omitempty"`
		Zone        string   `json:"zone,omitempty"`
		Roles       []string `json:"roles,omitempty"`
		Release     string   `json:"release,omitempty"`
	}
	headValue struct {
		Version     int    `json:"v"`
		Incarnation string `json:"incarnation"`
		Seq         uint64 `json:"seq"`
		Settled     uint64 `json:"settled"`
		WAL         uint64 `json:"wal"`
		Disk        string `json:"disk,omitempty"`
	}
	controllerValue struct {
		Version     int    `json:"v"`
		Node        string `json:"node"`
		Incarnation string `json:"incarnation"`
	}
	counterValue struct {
		Version int   `json:"v"`
		Next    int64 `json:"next"`
	}
)

func encodeJSON(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("meta: encode %T: %v", v, err)) // plain structs always encode
	}
	return out
}

// decodeJSON reads a value strictly: an unknown version or field is ErrFormat.
func decodeJSON(key string, p []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && (bytes.HasPrefix(p, []byte(`{"v":1,`)) || bytes.Equal(p, []byte(`{"v":1}`))) {
		return nil // as every release writes it
	}
	var head struct {
		Version int `json:"v"`
	}
	if headErr := json.Unmarshal(p, &head); headErr != nil {
		return fmt.Errorf("%w: key %s: %w", ErrFormat, key, headErr)
	}
	if head.Version != valueVersion {
		return fmt.Errorf("%w: key %s has version %d, this release reads %d", ErrFormat, key, head.Version, valueVersion)
	}
	if err != nil {
		return fmt.Errorf("%w: key %s: %w", ErrFormat, key, err)
	}
	return nil
}

func parseIncarnation(key, s string) (Incarnation, error) {
	i, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: key %s: incarnation %q", ErrFormat, key, s)
	}
	return Incarnation(i), nil
}

func encodeTopic(t Topic) []byte {
	return encodeJSON(topicValue{
		Version: valueVersion, ID: t.ID.String(), Partitions: t.Partitions, Config: t.Config.Map(), Created: t.Created.UTC().Format(time.RFC3339Nano),
		Held: t.Held,
	})
}

func decodeTopic(name string, kv KeyValue) (Topic, error) {
	var v topicValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return Topic{}, err
	}
	id, err := ParseTopicID(v.ID)
	if err != nil {
		return Topic{}, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
	}
	config, err := ParseTopicConfig(v.Config)
	if err != nil {
		return Topic{}, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
	}
	created, err := time.Parse(time.RFC3339Nano, v.Created)
	if err != nil {
		return Topic{}, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
	}
	if err := ValidatePartitions(v.Partitions); err != nil {
		return Topic{}, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
	}
	return Topic{
		Name: name, ID: id, Partitions: v.Partitions, Config: config, Created: created, Held: v.Held, Revision: kv.Mod, CreateRevision: kv.Create,
	}, nil
}

func encodeNode(n NodeInfo) []byte {
	return encodeJSON(nodeValue{
		Version: valueVersion, Incarnation: n.Incarnation.String(), Disk: n.Disk, HTTP: n.HTTP, Kafka: n.Kafka, Zone: n.Zone, Roles: n.Roles, Release: n.Version,
	})
}

func decodeNode(id NodeID, kv KeyValue) (NodeInfo, error) {
	var v nodeValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return NodeInfo{}, err
	}
	incarnation, err := parseIncarnation(kv.Key, v.Incarnation)
	if err != nil {
		return NodeInfo{}, err
	}
	return NodeInfo{ID: id, Incarnation: incarnation, Disk: v.Disk, HTTP: v.HTTP, Kafka: v.Kafka, Zone: v.Zone, Roles: v.Roles, Version: v.Release}, nil
}

func encodeHead(h Head) []byte {
	return encodeJSON(headValue{
		Version: valueVersion, Incarnation: h.Incarnation.String(), Seq: uint64(h.Seq), Settled: uint64(h.Settled), WAL: h.WAL, Disk: h.Disk,
	})
}

func decodeHead(kv KeyValue) (Head, error) {
	var v headValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return Head{}, err
	}
	incarnation, err := parseIncarnation(kv.Key, v.Incarnation)
	if err != nil {
		return Head{}, err
	}
	return Head{Incarnation: incarnation, Seq: Seq(v.Seq), Settled: Seq(v.Settled), WAL: v.WAL, Disk: v.Disk}, nil
}

const (
	assignVersion  = 1
	releaseVersion = 1
	// maxAssignBytes caps the value of assign/<node>.
	maxAssignBytes = 256 << 10
	// maxAssigned caps the partitions in one value: a run of 10,000 takes three bytes, so bytes alone bound no memory.
	maxAssigned = 200_000
)

// encodeAssignment packs what a node leads:
//
//	version u8 = 1 · disk (uvarint length, bytes) · topics uvarint, and for each, by id:
//	  topic id [16] · runs uvarint × (first partition uvarint · partitions uvarint · epoch uvarint)
//
// Epochs of partitions that the node led before and does not lead now are not here; see reassign in leadership.go.
func encodeAssignment(disk string, epochs map[Partition]Epoch) []byte {
	out := []byte{assignVersion}
	out = binary.AppendUvarint(out, uint64(len(disk)))
	out = append(out, disk...)
	return appendEpochs(out, epochs)
}

func appendEpochs(out []byte, epochs map[Partition]Epoch) []byte {
	type run struct {
		first, count int32
		epoch        Epoch
	}
	var topics []TopicID
	runs := make(map[TopicID][]run)
	for _, p := range sortPartitions(epochs) {
		list := runs[p.Topic]
		if len(list) == 0 {
			topics = append(topics, p.Topic)
		} else if last := &list[len(list)-1]; last.first+last.count == p.Partition && last.epoch == epochs[p] {
			last.count++
			continue
		}
		runs[p.Topic] = append(list, run{first: p.Partition, count: 1, epoch: epochs[p]})
	}
	out = binary.AppendUvarint(out, uint64(len(topics)))
	for _, id := range topics {
		out = append(out, id[:]...)
		out = binary.AppendUvarint(out, uint64(len(runs[id])))
		for _, r := range runs[id] {
			out = binary.AppendUvarint(out, uint64(r.first))
			out = binary.AppendUvarint(out, uint64(r.count))
			out = binary.AppendUvarint(out, uint64(r.epoch))
		}
	}
	return out
}

func (d *decoder) epochs() map[Partition]Epoch {
	out := make(map[Partition]Epoch)
	for range d.count(18) {
		var id TopicID
		copy(id[:], d.bytes(len(id)))
		for range d.count(3) {
			first := int32(d.uint(MaxPartitions))
			count := int32(d.uint(MaxPartitions))
			epoch := Epoch(d.uint(math.MaxInt32))
			if d.err == nil && (count < 1 || first+count > MaxPartitions || epoch < 1 || len(out)+int(count) > maxAssigned) {
				d.failf("%d partitions from %d on at epoch %d", count, first, epoch)
			}
			if d.err != nil {
				return nil
			}
			for p := first; p < first+count; p++ {
				out[Partition{Topic: id, Partition: p}] = epoch
			}
		}
	}
	return out
}

func decodeAssignment(node NodeID, kv KeyValue) (Assignment, error) {
	d := decoder{rest: kv.Value}
	if v := d.byte(); d.err == nil && v != assignVersion {
		return Assignment{}, fmt.Errorf("%w: key %s has version %d, this release reads %d", ErrFormat, kv.Key, v, assignVersion)
	}
	a := Assignment{Node: node, Revision: kv.Mod}
	a.Disk = string(d.bytes(d.count(1)))
	a.Epochs = d.epochs()
	return a, d.end("key " + kv.Key)
}

// encodeRelease packs partitions that a node let go: version u8 = 1, then epochs as in an assignment.
func encodeRelease(epochs map[Partition]Epoch) []byte {
	return appendEpochs([]byte{releaseVersion}, epochs)
}

func decodeRelease(kv KeyValue) (map[Partition]Epoch, error) {
	d := decoder{rest: kv.Value}
	if v := d.byte(); d.err == nil && v != releaseVersion {
		return nil, fmt.Errorf("%w: key %s has version %d, this release reads %d", ErrFormat, kv.Key, v, releaseVersion)
	}
	out := d.epochs()
	return out, d.end("key " + kv.Key)
}

// sortPartitions gives the keys by topic id and number.
func sortPartitions[V any](m map[Partition]V) []Partition {
	out := make([]Partition, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Partition) int {
		if c := bytes.Compare(a.Topic[:], b.Topic[:]); c != 0 {
			return c
		}
		return int(a.Partition) - int(b.Partition)
	})
	return out
}
