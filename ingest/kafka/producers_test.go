package kafka

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
)

// manyProducers is a log in which every partition knows so many producers.
type manyProducers struct {
	Log

	producers int
	asked     *atomic.Int64
	free      <-chan struct{} // closed when there is room
}

func (m manyProducers) Producers(context.Context, string, int32) ([]ingest.ProducerState, error) {
	m.asked.Add(1)
	select {
	case <-m.free:
	default:
		return nil, ingest.Errorf(ingest.ReasonInternal, "asked before there was room")
	}
	return make([]ingest.ProducerState, m.producers), nil
}

// An answer about producers is bounded, takes room before it is made, and tells nothing twice.
func TestDescribeProducersIsBounded(t *testing.T) {
	var asked atomic.Int64
	free := make(chan struct{})
	s, dial := fakeServer(t, "n1", &fakeCluster{}, func(c *Config) {
		c.Log = func() (Log, error) {
			return manyProducers{producers: maxToldProducers / 4, asked: &asked, free: free}, nil
		}
	})
	q := kmsg.NewPtrDescribeProducersRequest()
	for range 2 {
		topic := kmsg.NewDescribeProducersRequestTopic()
		topic.Topic, topic.Partitions = "orders", []int32{0, 1, 2, 3, 3, 2, 4, 0}
		q.Topics = append(q.Topics, topic)
	}
	c := dial()
	full := s.making.Try(makingBytes, nil)
	c.send(0, q)
	<-clock.System().NewTimer(50 * time.Millisecond).C() // it would be made by now
	close(free)
	full.Give()
	answer, _ := receive[*kmsg.DescribeProducersResponse](c, q)
	told := 0
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			if p.Partition == 4 {
				wantKafka(t, "one too many", p.ErrorCode, kerr.InvalidRequest)
			} else {
				wantKafka(t, "a partition", p.ErrorCode, nil)
			}
			told += len(p.ActiveProducers)
		}
	}
	if told != maxToldProducers || asked.Load() != 5 {
		t.Errorf("%d producers were told, and the log was asked %d times", told, asked.Load())
	}
}
