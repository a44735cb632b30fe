package conformance

import (
	"flag"
	"slices"
	"strings"
	"testing"

	librdkafka "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

var (
	update = flag.Bool("update", false, "write what ran into results/ and the documentation")
	compat = flag.Bool("compat", false, "run the clients of other languages and Kafka's own tools too; they need a JVM, Maven, Node, npm and kcat")
)

func moduleSeats(t *testing.T) []seat {
	_, rdVersion := librdkafka.LibraryVersion()
	return []seat{
		{name: "franz-go", version: moduleVersion(t, "github.com/twmb/franz-go"), open: openFranz},
		{name: "sarama", version: moduleVersion(t, "github.com/IBM/sarama"), open: openSarama},
		{name: "kafka-go", version: moduleVersion(t, "github.com/segmentio/kafka-go"), open: openKafkaGo, lacks: map[string]string{
			"idempotent": "kafka-go has no idempotent producer.",
		}, blurs: "kafka-go reads what is empty as NULL; it writes both as they are.", blur: emptyIsNull},
		{name: "librdkafka", version: rdVersion, open: openLibrd("classic")},
		{name: "librdkafka, KIP-848 groups", version: rdVersion, open: openLibrd("consumer")},
	}
}

// TestModules puts the clients that are Go modules through every story, and compares what ran with the table.
func TestModules(t *testing.T) {
	p := startProcess(t)
	r := new(recorder)
	t.Run("clients", func(t *testing.T) { p.tryAll(t, r, moduleSeats(t)) })
	if !t.Failed() && isWhole() {
		r.settle(t, "modules.json")
	}
}

// slug is a name as it may stand in that of a topic.
func slug(name string) string { return strings.NewReplacer(",", "", " ", "-").Replace(name) }

// emptyIsNull is how a library reads that does not tell the two apart.
func emptyIsNull(r record) record {
	some := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		return b
	}
	r.Key, r.Value, r.Headers = some(r.Key), some(r.Value), slices.Clone(r.Headers)
	for i, h := range r.Headers {
		r.Headers[i].Value = some(h.Value)
	}
	return r
}

// isWhole tells that -run leaves nothing out, so that a table can be made.
func isWhole() bool {
	f := flag.Lookup("test.run")
	return f == nil || !strings.Contains(f.Value.String(), "/")
}

// tryAll puts clients through every story, all clients at once.
func (p *process) tryAll(t *testing.T, r *recorder, seats []seat) {
	for _, s := range seats {
		r.column(s.name, s.version)
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c, err := s.open(p.broker)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := c.close(); err != nil {
					t.Error(err)
				}
			}()
			reference, err := openFranz(p.broker)
			if err != nil {
				t.Fatal(err)
			}
			defer reference.close()
			for _, f := range features() {
				if why := s.lacks[f.id]; why != "" {
					r.cell(s.name, f.id, why)
					continue
				}
				t.Run(f.id, func(t *testing.T) {
					f.run(&trial{T: t, client: c, server: p, reference: reference.(*franz), name: slug(s.name) + "." + f.id, seat: s})
					switch {
					case t.Failed():
					case s.blur != nil && (f.id == "records" || f.id == "from-tidemark") || s.writes != nil && f.id == "to-tidemark":
						r.cell(s.name, f.id, ran+": "+s.blurs)
					default:
						r.cell(s.name, f.id, ran)
					}
				})
			}
		})
	}
}
