package nemesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/history"
)

// TopicSpec is a topic of the workload.
type TopicSpec struct {
	Name       string
	Partitions int32
	Durability string // object or disk
}

// WorkloadConfig says how much is done. The zero value is 20,000 records a second over 12 partitions of a topic that is durable in
// the object store and 4 of one that is durable on disk, three consumers, and a query a second.
type WorkloadConfig struct {
	Topics    []TopicSpec
	Rate      int // records a second, all producers together
	Producers int // each on its own client, the first at the first node, and so on
	Consumers int
	// Reader makes consumer number k, from 0; nil is Assigned.
	Reader func(k int) Reader
	// QueryEvery is the time between two queries; below 0 there are none.
	QueryEvery time.Duration
	// Direct has all clients know all nodes and go straight to leaders.
	Direct bool
	// Kafka has the records produced by Kafka's clients (franz-go), over the nodes' Kafka listeners. KafkaGrouped are readers of that kind.
	Kafka bool
	// Delivery is how long a record may take before its producer gives it up.
	Delivery time.Duration
}

func (c *WorkloadConfig) setDefaults() {
	if c.Topics == nil {
		c.Topics = []TopicSpec{{Name: "events", Partitions: 12, Durability: "object"}, {Name: "ledger", Partitions: 4, Durability: "disk"}}
	}
	setDefault(&c.Rate, 20_000)
	setDefault(&c.Producers, 4)
	setDefault(&c.Consumers, 3)
	setDefault(&c.QueryEvery, time.Second)
	setDefault(&c.Delivery, 2*time.Minute)
	if c.Reader == nil {
		c.Reader = func(k int) Reader { return &Assigned{Number: k, Of: c.Consumers} }
	}
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Processes of the history: producers from 1, consumers from 100, who asks and reads at the end from 1000.
const (
	firstProducer = 1
	firstConsumer = 100
	firstAsker    = 1000
)

// Counts are the operations of a run.
type Counts struct {
	Produced      int64 `json:"produced"` // records
	Acked         int64 `json:"acked"`
	Failed        int64 `json:"failed"`  // known not to be in the log
	Unknown       int64 `json:"unknown"` // maybe in the log
	Polled        int64 `json:"polled"`  // records
	PollErrors    int64 `json:"poll_errors"`
	Queries       int64 `json:"queries"` // answered
	QueryErrors   int64 `json:"query_errors"`
	FinalReads    int64 `json:"final_reads"` // records, all nodes together
	FinalQueries  int64 `json:"final_queries"`
	NotTaken      int64 `json:"not_taken"` // records that a producer did not take; they were never sent
	ReaderRestart int64 `json:"reader_restarts"`
	Commits       int64 `json:"commits"` // of the group, those that were stored; all of known generations are fenced
	Leads         int64 `json:"leads"`   // blocks that leaders appended
}

type counters struct {
	produced, acked, failed, unknown, polled, pollErrors, queries, queryErrors, finalReads, finalQueries, notTaken, restarts, commits, leads atomic.Int64
}

func (c *counters) result() Counts {
	return Counts{
		Produced: c.produced.Load(), Acked: c.acked.Load(), Failed: c.failed.Load(), Unknown: c.unknown.Load(),
		Polled: c.polled.Load(), PollErrors: c.pollErrors.Load(), Queries: c.queries.Load(), QueryErrors: c.queryErrors.Load(),
		FinalReads: c.finalReads.Load(), FinalQueries: c.finalQueries.Load(), NotTaken: c.notTaken.Load(), ReaderRestart: c.restarts.Load(),
		Commits: c.commits.Load(), Leads: c.leads.Load(),
	}
}

// Workload is clients at work on a cluster, and what they saw. Start begins it, StopProducing ends what is produced, CaughtUp waits
// for consumers, Stop ends the rest, ReadAll reads the log anew.
type Workload struct {
	cluster *Cluster
	config  WorkloadConfig
	began   time.Time
	history *history.History
	count   counters
	measure *measures
	reading *readings
	journal *journal
	said    func(format string, args ...any)

	lastID     atomic.Uint64
	partitions map[string][]history.Partition // by topic
	names      map[string][]string

	stopProducers, stopOthers context.CancelFunc
	producers, others         sync.WaitGroup

	mu       sync.Mutex
	reached  map[string][]int64 // by topic and partition: what all consumers together have polled below
	failures map[string]int     // how often each message came
	trouble  []string           // what must not be and the history does not see
}

// NewWorkload makes the topics. said hears of what goes on.
func NewWorkload(ctx context.Context, c *Cluster, cfg WorkloadConfig, said func(format string, args ...any)) (*Workload, error) {
	cfg.setDefaults()
	w := &Workload{
		cluster: c, config: cfg, history: history.New(), measure: newMeasures(), reading: newReadings(), said: said,
		partitions: make(map[string][]history.Partition), names: make(map[string][]string),
		reached: make(map[string][]int64), failures: make(map[string]int),
	}
	w.journal = &journal{work: w, topics: make(map[meta.TopicID]string)}
	maker, err := c.NewClient(c.nodes[0])
	if err != nil {
		return nil, err
	}
	defer maker.Close()
	for _, topic := range cfg.Topics {
		if err := c.until(ctx, "topic "+topic.Name+" is made", func(ctx context.Context) error {
			made, _, err := maker.CreateTopic(ctx, topic.Name, topic.Partitions, map[string]string{"durability": topic.Durability}, true)
			if err != nil {
				return err
			}
			id, err := meta.ParseTopicID(made.GetId())
			w.journal.topics[id] = topic.Name
			return err
		}); err != nil {
			return nil, err
		}
		for p := range topic.Partitions {
			name := fmt.Sprintf("%s/%d", topic.Name, p)
			w.names[topic.Name] = append(w.names[topic.Name], name)
			w.partitions[topic.Name] = append(w.partitions[topic.Name], w.history.Partition(name))
		}
		w.reached[topic.Name] = make([]int64, topic.Partitions)
	}
	return w, nil
}

// Start begins everything, and the time of the run.
func (w *Workload) Start(ctx context.Context) error {
	w.began = clock.System().Now()
	var producing, other context.Context
	producing, w.stopProducers = context.WithCancel(ctx)
	other, w.stopOthers = context.WithCancel(ctx)
	if err := w.follow(ctx); err != nil {
		return err
	}
	for i := range w.config.Producers {
		p, err := w.newSender(i)
		if err != nil {
			return err
		}
		w.producers.Go(func() { p.run(producing) })
	}
	for k := range w.config.Consumers {
		reader := w.config.Reader(k)
		w.others.Go(func() { reader.Run(other, w, firstConsumer+int32(10*k)) })
	}
	if w.config.QueryEvery > 0 {
		w.others.Go(func() { w.ask(other) })
	}
	return nil
}

// client makes the client of producer or consumer number i. Of several nodes every second one goes straight to leaders, and the
// others have everything forwarded by one node, which they wait for when it is gone; unless all are to be Direct.
func (w *Workload) client(i int) (*client.Client, error) {
	node := w.cluster.nodes[i%len(w.cluster.nodes)]
	if len(w.cluster.nodes) > 1 && (i%2 == 0 || w.config.Direct) {
		return w.cluster.NewClusterClient(node)
	}
	return w.cluster.NewClient(node)
}

// Began is when the run began.
func (w *Workload) Began() time.Time { return w.began }

// Now is the time since then; the history's time is this in nanoseconds.
func (w *Workload) Now() time.Duration { return since(w.began) }

// History is what the workload saw.
func (w *Workload) History() *history.History { return w.history }

// Cluster is what it works on.
func (w *Workload) Cluster() *Cluster { return w.cluster }

// Topics are those of the workload.
func (w *Workload) Topics() []TopicSpec { return w.config.Topics }

// Partition is the history's handle.
func (w *Workload) Partition(topic string, partition int32) history.Partition {
	return w.partitions[topic][partition]
}

// StopProducing ends the producers; each waits for the answers to what it took, for as long as Delivery allows.
func (w *Workload) StopProducing() {
	w.stopProducers()
	w.producers.Wait()
}

// CaughtUp waits until the consumers, together, have polled up to the end that the cluster says. It needs StopProducing.
func (w *Workload) CaughtUp(ctx context.Context) error {
	asked, err := w.cluster.NewClusterClient(w.cluster.nodes[0])
	if err != nil {
		return err
	}
	defer asked.Close()
	return w.cluster.until(ctx, "consumers are at the end", func(ctx context.Context) error {
		for _, topic := range w.config.Topics {
			ends, err := asked.EndOffsets(ctx, topic.Name, "")
			if err != nil {
				return err
			}
			for p, end := range ends {
				if at := w.polledTo(topic.Name, p); at < end {
					return fmt.Errorf("consumers have polled %s to %d, and it ends at %d", w.names[topic.Name][p], at, end)
				}
			}
		}
		return nil
	})
}

func (w *Workload) polledTo(topic string, partition int32) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached[topic][partition]
}

// MustSee are, for the checker, the processes that together must have polled everything.
func (w *Workload) MustSee() [][]int32 {
	var out []int32
	for k := range w.config.Consumers {
		for i := range int32(10) {
			out = append(out, firstConsumer+int32(10*k)+i)
		}
	}
	return [][]int32{out}
}

// Polled records an answer to a consumer. Readers call it.
func (w *Workload) Polled(p history.Poll, topic string, partition int32, next int64) {
	w.history.Poll(p)
	w.count.polled.Add(int64(len(p.Records)))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached[topic][partition] = max(w.reached[topic][partition], next)
	w.reading.polled(w.names[topic][partition], next, w.Now())
}

// PollFailed counts a failure of a consumer; restarted, that it had to begin anew. Readers call it.
func (w *Workload) PollFailed(err error, restarted bool) {
	w.count.pollErrors.Add(1)
	if restarted {
		w.count.restarts.Add(1)
	}
	w.noteError("consume", err)
}

// Settled waits until the ends of all partitions have not moved for a second: what producers gave up may still arrive.
func (w *Workload) Settled(ctx context.Context) error {
	asked, err := w.cluster.NewClusterClient(w.cluster.nodes[0])
	if err != nil {
		return err
	}
	defer asked.Close()
	before := make(map[string]map[int32]int64)
	return w.cluster.until(ctx, "the log stays as it is", func(ctx context.Context) error {
		if !wait(ctx, time.Second) {
			return context.Cause(ctx)
		}
		for _, topic := range w.config.Topics {
			ends, err := asked.EndOffsets(ctx, topic.Name, "")
			if err != nil {
				return err
			}
			if was := before[topic.Name]; !maps.Equal(was, ends) {
				before[topic.Name] = ends
				return fmt.Errorf("%s ended at %v, and then at %v", topic.Name, was, ends)
			}
		}
		return nil
	})
}

// Committed waits until every record is committed: those of a disk topic may stand on the disk alone for seconds after they were acknowledged, and the
// journal of leaders hears of commits.
func (w *Workload) Committed(ctx context.Context) error {
	asked, err := w.cluster.NewClusterClient(w.cluster.nodes[0])
	if err != nil {
		return err
	}
	defer asked.Close()
	return w.cluster.until(ctx, "everything is committed", func(ctx context.Context) error {
		for _, topic := range w.config.Topics {
			ends, err := asked.EndOffsets(ctx, topic.Name, "")
			if err != nil {
				return err
			}
			for partition, end := range ends {
				if err := w.journal.covers(fmt.Sprintf("%s/%d", topic.Name, partition), end); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Stop ends consumers and queries.
func (w *Workload) Stop() {
	w.stopProducers()
	w.stopOthers()
	w.producers.Wait()
	w.others.Wait()
	w.journal.stop()
}

// Troublef says that something is wrong that the history cannot show.
func (w *Workload) Troublef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.trouble) < 20 {
		w.trouble = append(w.trouble, fmt.Sprintf(format, args...))
	}
}

func (w *Workload) noteError(what string, err error) {
	text := what + ": " + short(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) < 200 || w.failures[text] > 0 {
		w.failures[text]++
	}
}

// address is a port of this machine, which is another one in each run.
var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// short is an error as its reason where it has one, so that many are one.
func short(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok && e.Reason != "" {
		return e.Reason + " (" + e.Code.String() + ")"
	}
	text := address.ReplaceAllString(err.Error(), "…")
	return text[:min(len(text), 160)]
}
