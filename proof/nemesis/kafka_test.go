package nemesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/proof/history"
)

// Who the clients are (TIDEMARK_NEMESIS_CLIENTS).
const (
	ownClients   = "own"
	kafkaOnes    = "kafka"
	kafkaOnes848 = "kafka-848"
)

// clients reads from the environment who the clients are to be.
func clients(t *testing.T) string {
	t.Helper()
	switch s := os.Getenv("TIDEMARK_NEMESIS_CLIENTS"); s {
	case "":
		return ownClients
	case ownClients, kafkaOnes, kafkaOnes848:
		return s
	default:
		t.Fatalf("TIDEMARK_NEMESIS_CLIENTS=%q: it is %s, %s or %s", s, ownClients, kafkaOnes, kafkaOnes848)
		return ""
	}
}

// groupReader is consumer number k, a member of the group of all, which leaves after a while unless that is 0.
func groupReader(clients string, k int, stays time.Duration) Reader {
	const group = "readers"
	if clients == ownClients {
		return &Grouped{Number: k, Group: group, Stays: stays}
	}
	return &KafkaGrouped{Number: k, Group: group, Stays: stays, Subscribed: clients == kafkaOnes848}
}

// TestKafkaClients has Kafka's clients produce, and read as a group, while one leader is killed, their links to another node are reset, and members
// leave and join again. The longer proofs do so with TIDEMARK_NEMESIS_CLIENTS=kafka.
func TestKafkaClients(t *testing.T) {
	const run = 10 * time.Second
	programs := binaries(t)
	c := StartCluster(t, Options{Binaries: &programs, Kafka: true})
	w, err := NewWorkload(t.Context(), c, WorkloadConfig{
		Rate: 4000, Kafka: true, Reader: func(k int) Reader { return groupReader(kafkaOnes, k, time.Duration(4+3*k)*time.Second) },
	}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	steps := []Step{
		{At: 2 * time.Second, For: 2 * time.Second, Kind: "client–node reset", Class: OfLinks, Fault: &resetLinks{Links: c.nodes[0].clientLinks(), After: 100 * time.Millisecond}},
		{At: 3 * time.Second, For: 3 * time.Second, Kind: "leader killed", Class: OfNodes, Fault: &killLeader{Cluster: c}},
	}
	faults := Perform(t.Context(), steps, w.Began(), t.Logf)
	wait(t.Context(), run-w.Now())
	result := finish(t, w, 0, faults, nil)
	report(t, c, result, len(steps))
	mustKnowAll(t, w, result)
}

// A record that may be in the log is never said to be refused, and the other way round.
func TestKafkaOutcome(t *testing.T) {
	for err, want := range map[error]error{
		nil:                                    nil,
		kerr.MessageTooLarge:                   client.ErrRefused,
		kerr.InvalidRecord:                     client.ErrRefused,
		kgo.ErrMaxBuffered:                     client.ErrRefused,
		kerr.NotLeaderForPartition:             client.ErrOutcomeUnknown,
		kerr.NotEnoughReplicas:                 client.ErrOutcomeUnknown, // an attempt before it may have been another thing
		kerr.NotEnoughReplicasAfterAppend:      client.ErrOutcomeUnknown,
		kerr.RequestTimedOut:                   client.ErrOutcomeUnknown,
		kerr.OutOfOrderSequenceNumber:          client.ErrOutcomeUnknown,
		kerr.UnknownTopicOrPartition:           client.ErrOutcomeUnknown,
		kgo.ErrRecordTimeout:                   client.ErrOutcomeUnknown,
		kgo.ErrClientClosed:                    client.ErrOutcomeUnknown,
		context.Canceled:                       client.ErrOutcomeUnknown,
		errors.New("the connection is broken"): client.ErrOutcomeUnknown,
	} {
		for _, err := range []error{err, wrapped(err)} {
			if got := kafkaOutcome(err); !errors.Is(got, want) || !errors.Is(got, err) {
				t.Errorf("%v: %v, want %v", err, got, want)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("more about it: %w", err)
}

func TestKafkaCommitted(t *testing.T) {
	for _, c := range []struct {
		err     error
		written int32
		want    history.Outcome
	}{
		{nil, 1, history.OK},
		{nil, 3, history.OK},
		{kerr.IllegalGeneration, 1, history.Fail},
		{kerr.IllegalGeneration, 2, history.Info}, // the first may have been stored
		{kerr.RebalanceInProgress, 1, history.Fail},
		{kerr.NotCoordinator, 1, history.Info},
		{kerr.RequestTimedOut, 1, history.Info},
	} {
		if got := kafkaCommitted(c.err, c.written); got != c.want {
			t.Errorf("%v of %d requests: %v, want %v", c.err, c.written, got, c.want)
		}
	}
	request, response := kmsg.NewPtrOffsetCommitRequest(), kmsg.NewPtrOffsetCommitResponse()
	request.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "events", TopicID: [16]byte{1}}, {Topic: "ledger", TopicID: [16]byte{2}}}
	response.Topics = []kmsg.OffsetCommitResponseTopic{
		{TopicID: [16]byte{2}, Partitions: []kmsg.OffsetCommitResponseTopicPartition{{Partition: 3, ErrorCode: 22}}},
		{Topic: "events", Partitions: []kmsg.OffsetCommitResponseTopicPartition{{Partition: 1}}},
	}
	if got, want := commitCodes(request, response), map[spot]int16{{"ledger", 3}: 22, {"events", 1}: 0}; !maps.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
	if got := commitCodes(request, nil); len(got) != 0 {
		t.Errorf("codes %v of no answer", got)
	}
}

// What a member commits when a partition is taken from it is what it polled of that partition, and nothing of it later.
func TestKafkaUncommitted(t *testing.T) {
	m := &kafkaMember{next: make(map[spot]int64), polled: map[spot]kgo.EpochOffset{
		{"events", 0}: {Offset: 5}, {"events", 1}: {Offset: 7}, {"ledger", 0}: {Offset: 2},
	}}
	check := func(what string, parts map[string][]int32, want map[spot]int64) {
		t.Helper()
		got := make(map[spot]int64)
		for topic, partitions := range m.uncommitted(parts) {
			for p, at := range partitions {
				got[spot{topic, p}] = at.Offset
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("all", nil, map[spot]int64{{"events", 0}: 5, {"events", 1}: 7, {"ledger", 0}: 2})
	check("some", map[string][]int32{"events": {1, 9}}, map[spot]int64{{"events", 1}: 7})
	m.stored(spot{"events", 0}, 4) // polled on meanwhile
	m.stored(spot{"events", 1}, 7)
	check("after a commit", nil, map[spot]int64{{"events", 0}: 5, {"ledger", 0}: 2})
	m.forget(map[string][]int32{"events": {0}})
	check("after one is gone", nil, map[spot]int64{{"ledger", 0}: 2})
}
