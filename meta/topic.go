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
	// ConfigColumn comes before the JSON key of a column whose type is chosen.
	ConfigColumn = "column."
)

// Limits of the columns whose types are chosen.
const (
	maxColumns    = 100
	maxColumnName = 256
)

// columnTypes are what a column may be chosen to be.
var columnTypes = []string{"BOOLEAN", "BIGINT", "DOUBLE", "VARCHAR", "JSON"}

// TopicConfig is a topic's settings, each with its value in force. Two are equal when they say the same.
type TopicConfig struct {
	Durability Durability
	// MaxMessageBytes caps a batch as it is sent.
	MaxMessageBytes int

	// columns has a line for each column whose type is chosen, by name: the quoted name, a space, the type.
	columns string
}

// Columns are the columns whose types are chosen, by JSON key: BOOLEAN, BIGINT, DOUBLE, VARCHAR or JSON.
func (c TopicConfig) Columns() map[string]string {
	out := make(map[string]string)
	for line := range strings.Lines(c.columns) {
		at := strings.LastIndexByte(line, ' ')
		name, err := strconv.Unquote(line[:at])
		if err != nil {
			panic(fmt.Sprintf("meta: columns %q: %v", c.columns, err)) // withColumn quoted it
		}
		out[name] = strings.TrimSuffix(line[at+1:], "\n")
	}
	return out
}

// withColumn chooses the type of a column; an empty type chooses none.
func (c TopicConfig) withColumn(name, typ string) (TopicConfig, error) {
	kind := strings.ToUpper(typ)
	switch {
	case name == "" || len(name) > maxColumnName || !utf8.ValidString(name) || strings.Contains(name, "\x00"):
		return c, fmt.Errorf("%w: column.%q; the name of a column is 1 to %d bytes of UTF-8 without NUL", ErrInvalidConfig, name, maxColumnName)
	case typ != "" && !slices.Contains(columnTypes, kind):
		return c, fmt.Errorf("%w: column.%s=%q; it is %s, or nothing to choose none", ErrInvalidConfig, name, typ, strings.Join(columnTypes, ", "))
	}
	columns := c.Columns()
	columns[name] = kind
	if typ == "" {
		delete(columns, name)
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		out.WriteString(strconv.Quote(name) + " " + columns[name] + "\n")
	}
	c.columns = out.String()
	return c, nil
}

// DefaultTopicConfig is what a topic has when nobody says otherwise.
func DefaultTopicConfig() TopicConfig {
	return TopicConfig{Durability: DurabilityObject, MaxMessageBytes: DefaultMaxMessageBytes}
}

// ParseTopicConfig reads settings; those that are not named have their defaults. Errors are ErrInvalidConfig.
func ParseTopicConfig(settings map[string]string) (TopicConfig, error) {
	return DefaultTopicConfig().With(settings)
}

// With returns c with some settings changed. An empty value of a column.<name> removes it.
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
			name, column := strings.CutPrefix(key, ConfigColumn)
			if !column {
				return c, fmt.Errorf("%w: there is no setting %q; the settings are %s (object or disk), %s and %s<name> (%s)",
					ErrInvalidConfig, key, ConfigDurability, ConfigMaxMessageBytes, ConfigColumn, strings.Join(columnTypes, ", "))
			}
			var err error
			if c, err = c.withColumn(name, value); err != nil {
				return c, err
			}
		}
	}
	if n := strings.Count(c.columns, "\n"); n > maxColumns {
		return c, fmt.Errorf("%w: the types of %d columns are chosen; a topic may have %d such settings", ErrInvalidConfig, n, maxColumns)
	}
	return c, nil
}

// Map gives every setting with its value in force.
func (c TopicConfig) Map() map[string]string {
	out := map[string]string{
		ConfigDurability:      c.Durability.String(),
		ConfigMaxMessageBytes: strconv.Itoa(c.MaxMessageBytes),
	}
	for name, typ := range c.Columns() {
		out[ConfigColumn+name] = typ
	}
	return out
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
