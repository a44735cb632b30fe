package client

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Position is an offset vector of one topic: for each partition the next offset, so that everything below it is covered. A
// partition that is absent is not.
type Position struct {
	Topic   string
	Offsets map[int32]int64
}

// Bounds of what ParsePosition takes, before it takes memory for it.
const (
	maxPositionText  = 1 << 20
	maxPositionTopic = 249 // no topic has a longer name
)

// String is the topic, and behind it partition:offset for each partition by number: "access 0:2394 1:2058". A position without
// partitions is "access -".
func (p Position) String() string {
	var b strings.Builder
	b.WriteString(p.Topic)
	for _, n := range slices.Sorted(maps.Keys(p.Offsets)) {
		fmt.Fprintf(&b, " %d:%d", n, p.Offsets[n])
	}
	if len(p.Offsets) == 0 {
		b.WriteString(" -")
	}
	return b.String()
}

// ParsePosition reads what String writes, and `tidemark produce` prints behind the word position. It takes any white space
// between the parts, and nothing else that String would not write: numbers are decimal without sign or leading zeros, and no
// partition comes twice.
func ParsePosition(s string) (Position, error) {
	if len(s) > maxPositionText {
		return Position{}, fmt.Errorf("position of %d bytes: more than %d", len(s), maxPositionText)
	}
	fields := strings.Fields(s)
	if len(fields) < 2 {
		return Position{}, fmt.Errorf("position %.100q: want a topic and partition:offset pairs, as in \"access 0:2394 1:2058\"", s)
	}
	topic, fields := fields[0], fields[1:]
	if err := checkPositionTopic(topic); err != nil {
		return Position{}, err
	}
	p := Position{Topic: topic, Offsets: make(map[int32]int64, len(fields))}
	if len(fields) == 1 && fields[0] == "-" {
		return p, nil
	}
	for _, f := range fields {
		left, right, ok := strings.Cut(f, ":")
		n, nOK := parseCanonical(left, 31)
		at, atOK := parseCanonical(right, 63)
		if !ok || !nOK || !atOK {
			return Position{}, fmt.Errorf("position of topic %s: %.100q is no partition:offset, such as 0:2394", topic, f)
		}
		if _, twice := p.Offsets[int32(n)]; twice {
			return Position{}, fmt.Errorf("position of topic %s: partition %d comes twice", topic, n)
		}
		p.Offsets[int32(n)] = at
	}
	return p, nil
}

// checkPositionTopic refuses what can be no topic's name, such as a pair whose topic was forgotten.
func checkPositionTopic(topic string) error {
	if len(topic) > maxPositionTopic {
		return fmt.Errorf("position: the topic's name has %d bytes, more than %d", len(topic), maxPositionTopic)
	}
	for _, c := range []byte(topic) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("position: %q is no topic's name; want a topic and partition:offset pairs, as in \"access 0:2394 1:2058\"", topic)
		}
	}
	return nil
}

// parseCanonical reads a number from 0 to 2^bits - 1 as strconv writes it.
func parseCanonical(s string, bits uint) (int64, bool) {
	if s == "" || len(s) > 19 || s[0] < '0' || s[0] > '9' || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n>>bits == 0
}

func positionsToProto(positions []Position) []*tidemarkv1.Position {
	out := make([]*tidemarkv1.Position, 0, len(positions))
	for _, p := range positions {
		out = append(out, &tidemarkv1.Position{Topic: p.Topic, Offsets: p.Offsets})
	}
	return out
}

func positionsFromProto(positions []*tidemarkv1.Position) []Position {
	out := make([]Position, 0, len(positions))
	for _, p := range positions {
		out = append(out, Position{Topic: p.GetTopic(), Offsets: p.GetOffsets()})
	}
	return out
}
