package nemesis

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// openKafka opens the link by which Kafka's clients come, when there are to be any, and returns the node's flags for its Kafka listener.
func (n *Node) openKafka(ctx context.Context) ([]string, error) {
	if !n.cluster.options.Kafka {
		return []string{"--kafka", "off"}, nil
	}
	address, err := ports.address(ctx)
	if err != nil {
		return nil, err
	}
	if n.kafka, err = n.cluster.openLink(ctx, "kafka→"+n.id, address); err != nil {
		return nil, err
	}
	return []string{"--kafka", address, "--advertise-kafka", n.kafka.Address()}, nil
}

// seeds are where Kafka's clients find the nodes: the links to all of them, to number first before the others.
func (c *Cluster) seeds(first int) []string {
	out := make([]string, 0, len(c.nodes))
	for i := range c.nodes {
		out = append(out, c.nodes[(first+i)%len(c.nodes)].kafka.Address())
	}
	return out
}

// metadataMinAge is how long a client keeps to what it knows about leaders at least. franz-go's own default of seconds would be most of what is
// measured when partitions move.
const metadataMinAge = 250 * time.Millisecond

// kafkaLog is the file in which one of Kafka's clients tells what it does, for the logs of a run that went wrong.
type kafkaLog struct {
	work *Workload
	mu   sync.Mutex // clients that follow on each other share it
	file *os.File
}

// openKafkaLog makes the file that is kept as name.log.
func (w *Workload) openKafkaLog(name string) (*kafkaLog, error) {
	path := filepath.Join(w.cluster.dir, name+".log")
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("open the log of one of Kafka's clients: %w", err)
	}
	w.cluster.mu.Lock()
	defer w.cluster.mu.Unlock()
	w.cluster.said = append(w.cluster.said, path)
	return &kafkaLog{work: w, file: f}, nil
}

// Write keeps what a client tells. What comes after close is dropped.
func (l *kafkaLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, io.ErrClosedPipe
	}
	return l.file.Write(b)
}

func (l *kafkaLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close() // it is of use to people only
		l.file = nil
	}
}

// kafkaOptions are those of client number i.
func (w *Workload) kafkaOptions(i int, log *kafkaLog) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(w.cluster.seeds(i % len(w.cluster.nodes))...),
		kgo.MetadataMinAge(metadataMinAge),
		// The link to a node that is down accepts and closes, where the node itself would refuse. franz-go takes that for a failed login, and gives up.
		kgo.AlwaysRetryEOF(),
		kgo.WithLogger(kgo.BasicLogger(log, kgo.LogLevelInfo, func() string { return fmt.Sprintf("%8.3fs ", w.Now().Seconds()) })),
	}
}
