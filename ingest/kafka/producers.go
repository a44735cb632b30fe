package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// InitProducerId and DescribeProducers.

// errTransactions refuses transactions. There is no code for a broker that has none. With UNSUPPORTED_VERSION librdkafka would ask for ever;
// this one ends the first transaction of every client at once, and with a word that leads to the setting.
var errTransactions = refuse(kerr.TransactionalIDAuthorizationFailed, "transactions are not supported: leave transactional.id out; producers are idempotent without it")

// serveInitProducerID gives out a producer id. A producer that has one, and asks because something went wrong, gets another, as at Kafka's brokers:
// what it wrote under the old one is settled or lost by then, and nobody could say for all partitions which epoch of the old one is free.
func serveInitProducerID(ctx context.Context, k *call, q *kmsg.InitProducerIDRequest) (*kmsg.InitProducerIDResponse, error) {
	out := kmsg.NewPtrInitProducerIDResponse()
	out.ProducerEpoch = -1
	switch {
	case q.TransactionalID != nil && *q.TransactionalID == "":
		out.ErrorCode = kerr.InvalidRequest.Code
		return out, nil
	case q.TransactionalID != nil:
		out.ErrorCode = codeOf(errTransactions)
		return out, nil
	case (q.ProducerID < 0) != (q.ProducerEpoch < 0):
		out.ErrorCode = kerr.InvalidRequest.Code
		return out, nil
	}
	log, err := k.conn.log()
	if err == nil {
		out.ProducerID, out.ProducerEpoch, err = log.InitProducer(ctx)
	}
	if err != nil {
		out.ProducerID, out.ProducerEpoch, out.ErrorCode = -1, -1, codeOf(err)
		if ingest.ReasonOf(err).Retryable() {
			// Every client knows it from here, and asks again.
			out.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		}
	}
	return out, nil
}

const (
	// maxAskedForProducers is of how many partitions one request may ask for the producers, and maxToldProducers how many an answer tells, all together.
	maxAskedForProducers = 10_000
	maxToldProducers     = 100_000
	// Each of them takes so many bytes while the answer is made, about.
	askedForBytes, toldProducerBytes = 512, 128
)

// serveDescribeProducers answers of each partition once, however often it is named.
func serveDescribeProducers(ctx context.Context, k *call, q *kmsg.DescribeProducersRequest) (*kmsg.DescribeProducersResponse, error) {
	total := 0
	for _, t := range q.Topics {
		total += len(t.Partitions)
	}
	if total > maxAskedForProducers {
		return nil, errTooMany("partitions", total, maxAskedForProducers)
	}
	left := min(total*2*meta.ProducersKept, maxToldProducers)
	if err := k.reserve(int64(total)*askedForBytes + int64(left)*toldProducerBytes); err != nil {
		return nil, err
	}
	ctx, cancel := k.withPatience(ctx)
	defer cancel()
	log, refused := k.conn.log()
	out := kmsg.NewPtrDescribeProducersResponse()
	told := make(map[topicPartition]struct{}, total)
	for _, t := range q.Topics {
		to := kmsg.NewDescribeProducersResponseTopic()
		to.Topic = t.Topic
		for _, n := range t.Partitions {
			name := topicPartition{topic: t.Topic, partition: n}
			if _, twice := told[name]; twice {
				continue
			}
			told[name] = struct{}{}
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = n
			var states []ingest.ProducerState
			err := refused
			if err == nil {
				states, err = log.Producers(ctx, t.Topic, n)
			}
			if len(states) > left {
				states, err = nil, refuse(kerr.InvalidRequest, "an answer tells %d producers at most: ask for fewer partitions at once", maxToldProducers)
			}
			left -= len(states)
			p.ErrorCode, p.ErrorMessage = codeOf(err), messageOf(err)
			p.ActiveProducers = make([]kmsg.DescribeProducersResponseTopicPartitionActiveProducer, len(states))
			for i, s := range states {
				a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				a.ProducerID, a.ProducerEpoch, a.LastSequence, a.CoordinatorEpoch = s.ID, int32(s.Epoch), s.LastSequence, -1
				p.ActiveProducers[i] = a
			}
			to.Partitions = append(to.Partitions, p)
		}
		out.Topics = append(out.Topics, to)
	}
	return out, nil
}
