package meta

import (
	"fmt"
	"strconv"
	"strings"
)

// OffsetRange is the offsets From <= offset < To.
type OffsetRange struct{ From, To int64 }

// Manifest is what the cluster knows of a partition beside its L0 records.
type Manifest struct {
	// Version goes up with every change.
	Version int64
	// Lost are offsets that were given up, ascending. No record stands there, and the log goes on behind.
	Lost []OffsetRange
}

// LostGap is how far beyond its committed end a log goes on when what its leader had on disk is given up: more than any leader
// gives offsets to before it has flushed.
const LostGap = 1 << 32

// maxLost bounds the ranges of one partition: each takes an operator's decision.
const maxLost = 10_000

type manifestValue struct {
	Version int        `json:"v"`
	Number  int64      `json:"version"`
	Lost    [][2]int64 `json:"lost,omitempty"`
}

func encodeManifest(m Manifest) []byte {
	v := manifestValue{Version: valueVersion, Number: m.Version}
	for _, r := range m.Lost {
		v.Lost = append(v.Lost, [2]int64{r.From, r.To})
	}
	return encodeJSON(v)
}

func decodeManifest(kv KeyValue) (Manifest, error) {
	var v manifestValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return Manifest{}, err
	}
	if len(v.Lost) > maxLost {
		return Manifest{}, fmt.Errorf("%w: key %s: %d lost ranges", ErrFormat, kv.Key, len(v.Lost))
	}
	m := Manifest{Version: v.Number}
	at := int64(0)
	for _, r := range v.Lost {
		if r[0] < at || r[1] <= r[0] {
			return Manifest{}, fmt.Errorf("%w: key %s: lost range %d to %d", ErrFormat, kv.Key, r[0], r[1])
		}
		at = r[1]
		m.Lost = append(m.Lost, OffsetRange{From: r[0], To: r[1]})
	}
	return m, nil
}

// parsePartition reads <topic id>/<partition>.
func parsePartition(s string) (Partition, error) {
	topic, number, ok := strings.Cut(s, "/")
	if !ok {
		return Partition{}, fmt.Errorf("%q names no partition", s)
	}
	id, err := ParseTopicID(topic)
	if err != nil {
		return Partition{}, err
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || n >= MaxPartitions {
		return Partition{}, fmt.Errorf("%q names no partition", s)
	}
	return Partition{Topic: id, Partition: int32(n)}, nil
}
