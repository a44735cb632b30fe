package query

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// position is an offset vector of one topic.
type position struct {
	topic   string
	offsets map[int32]int64
}

// maxPositions bounds the topics, and the partitions of each, that at_least may name.
const (
	maxPositions         = 1_000
	maxPositionPartition = 10_000
)

// positionsOf checks what a request wants to be covered. A topic that is named twice counts with the greater offsets.
func positionsOf(in []*tidemarkv1.Position) (map[string]map[int32]int64, error) {
	if len(in) > maxPositions {
		return nil, errorf(ReasonInvalidRequest, "at_least has %d positions, more than %d", len(in), maxPositions)
	}
	out := make(map[string]map[int32]int64, len(in))
	for _, p := range in {
		if err := addPosition(out, p.GetTopic(), p.GetOffsets()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func addPosition(to map[string]map[int32]int64, topic string, offsets map[int32]int64) error {
	switch {
	case topic == "":
		return errorf(ReasonInvalidRequest, "at_least has a position without a topic")
	case len(offsets) > maxPositionPartition:
		return errorf(ReasonInvalidRequest, "at_least names %d partitions of topic %s, more than %d", len(offsets), topic, maxPositionPartition)
	}
	merged := to[topic]
	if merged == nil {
		merged = make(map[int32]int64, len(offsets))
		to[topic] = merged
	}
	for partition, offset := range offsets {
		if partition < 0 || offset < 0 {
			return errorf(ReasonInvalidRequest, "at_least has partition %d and offset %d of topic %s: neither is below 0", partition, offset, topic)
		}
		merged[partition] = max(merged[partition], offset)
	}
	return nil
}

// parsePosition reads the text form of one topic's position, `orders 0:12 1:3`.
func parsePosition(text string) (topic string, offsets map[int32]int64, err error) {
	words := strings.Fields(text)
	if len(words) < 2 {
		return "", nil, errorf(ReasonInvalidRequest, "at_least=%q: want a topic and partition:offset pairs, such as `orders 0:12 1:3`", text)
	}
	offsets = make(map[int32]int64, len(words)-1)
	for _, word := range words[1:] {
		left, right, found := strings.Cut(word, ":")
		partition, errPartition := strconv.ParseInt(left, 10, 32)
		offset, errOffset := strconv.ParseInt(right, 10, 64)
		if !found || errPartition != nil || errOffset != nil || partition < 0 || offset < 0 {
			return "", nil, errorf(ReasonInvalidRequest, "at_least=%q: %q is no partition:offset pair, such as 0:12", text, word)
		}
		if _, twice := offsets[int32(partition)]; twice {
			return "", nil, errorf(ReasonInvalidRequest, "at_least=%q: partition %d is there twice", text, partition)
		}
		offsets[int32(partition)] = offset
	}
	return words[0], offsets, nil
}

// String is the text form, partitions in order.
func (p position) String() string {
	var b strings.Builder
	b.WriteString(p.topic)
	for _, partition := range slices.Sorted(maps.Keys(p.offsets)) {
		fmt.Fprintf(&b, " %d:%d", partition, p.offsets[partition])
	}
	return b.String()
}

// formatPositions joins the text forms.
func formatPositions(positions []position) string {
	texts := make([]string, len(positions))
	for i, p := range positions {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

func protoPositions(positions []position) []*tidemarkv1.Position {
	out := make([]*tidemarkv1.Position, len(positions))
	for i, p := range positions {
		out[i] = &tidemarkv1.Position{Topic: p.topic, Offsets: p.offsets}
	}
	return out
}
