package meta

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors about topics that callers act on; test with errors.Is.
var (
	ErrUnknownTopic  = errors.New("unknown topic")
	ErrTopicExists   = errors.New("topic exists already")
	ErrInvalidTopic  = errors.New("invalid topic")
	ErrInvalidConfig = errors.New("invalid topic configuration")
)

// Durability is what a topic's high watermark waits for.
type Durability uint8

// The zero value is the default.
const (
	DurabilityObject Durability = iota // stored and committed
	DurabilityDisk                     // synced on the leader's disk
)

// String is the setting's value.
func (d Durability) String() string {
	if d == DurabilityDisk {
		return "disk"
	}
	return "object"
}

// Limits of topics.
const (
	MaxPartitions          = 10_000
	maxTopicNameLength     = 249
	DefaultMaxMessageBytes = 1_048_588 // as Kafka's default
	minMaxMessageBytes     = 1 << 10
	maxMaxMessageBytes     = 8 << 20
)

// The settings of a topic.
const (
	ConfigDurability      = "durability"
	ConfigMaxMessageBytes = "max.message.bytes"
)

// TopicConfig is a topic's settings, each with its value in force.
type TopicConfig struct {
	Durability Durability
	// MaxMessageBytes caps a batch as it is sent.
	MaxMessageBytes int
}

// DefaultTopicConfig is what a topic has when nobody says otherwise.
func DefaultTopicConfig() TopicConfig {
	return TopicConfig{Durability: DurabilityObject, MaxMessageBytes: DefaultMaxMessageBytes}
}

// ParseTopicConfig reads settings; those that are not named have their defaults. Errors are ErrInvalidConfig.
func ParseTopicConfig(settings map[string]string) (TopicConfig, error) {
	return DefaultTopicConfig().With(settings)
}

// With returns c with some settings changed.
func (c TopicConfig) With(settings map[string]string) (TopicConfig, error) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		value := settings[key]
		switch key {
		case ConfigDurability:
			switch value {
			case "object":
				c.Durability = DurabilityObject
			case "disk":
				c.Durability = DurabilityDisk
			default:
				return c, fmt.Errorf("%w: durability=%q; it is object or disk", ErrInvalidConfig, value)
			}
		case ConfigMaxMessageBytes:
			n, err := strconv.Atoi(value)
			if err != nil || n < minMaxMessageBytes || n > maxMaxMessageBytes {
				return c, fmt.Errorf("%w: max.message.bytes=%q; it is a number of bytes from %d to %d", ErrInvalidConfig, value, minMaxMessageBytes, maxMaxMessageBytes)
			}
			c.MaxMessageBytes = n
		default:
			return c, fmt.Errorf("%w: there is no setting %q; the settings are %s (object or disk) and %s", ErrInvalidConfig, key, ConfigDurability, ConfigMaxMessageBytes)
		}
	}
	return c, nil
}

// Map gives every setting with its value in force.
func (c TopicConfig) Map() map[string]string {
	return map[string]string{
		ConfigDurability:      c.Durability.String(),
		ConfigMaxMessageBytes: strconv.Itoa(c.MaxMessageBytes),
	}
}

// ValidateTopicName checks a name: 1 to 249 of the letters, digits, '.', '_' and '-', and neither "." nor "..".
func ValidateTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", ErrInvalidTopic)
	case len(name) > maxTopicNameLength:
		return fmt.Errorf("%w: the name has %d bytes, more than %d", ErrInvalidTopic, len(name), maxTopicNameLength)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the name %q is not UTF-8", ErrInvalidTopic, name)
	case name == "." || name == "..":
		return fmt.Errorf("%w: the name %q is not allowed", ErrInvalidTopic, name)
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return fmt.Errorf("%w: the name %q has %q in it; letters, digits, '.', '_' and '-' are allowed", ErrInvalidTopic, name, r)
	}
	return nil
}

// ValidatePartitions checks a number of partitions.
func ValidatePartitions(n int32) error {
	if n < 1 || n > MaxPartitions {
		return fmt.Errorf("%w: %d partitions; a topic has 1 to %d", ErrInvalidTopic, n, MaxPartitions)
	}
	return nil
}
