package killtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proof/history"
	"github.com/tidemark-io/tidemark/record"
)

// Processes of the history. There is a tail for each topic, and a reader for each node.
const (
	patientProcess   = 1
	impatientProcess = 2
	askerProcess     = 3
	memberProcess    = 4 // and the one after it
	firstTailProcess = 10
)

const (
	tick = 4 * time.Millisecond // between two records of a partition
	// impatience is how long the impatient producer waits for an answer.
	impatience = 300 * time.Millisecond
	groupName  = "readers"
	// commitEvery is how often the member of the group commits.
	commitEvery = 10 * time.Millisecond
)

// load is clients at work, and the history of what they did and saw. The patient producer is idempotent and must have everything
// acknowledged in the end. The impatient one has no producer id and gives up soon: what it is told was refused must not be in the log.
// Consumers follow each topic all the time.
type load struct {
	t       *testing.T
	ctx     context.Context // of the row
	client  *client.Client
	began   time.Time
	history *history.History
	group   history.Group
	topics  []loadTopic
	value   atomic.Uint64

	stopProducing, stopReading context.CancelFunc
	producing, reading         sync.WaitGroup
	endMember                  func() // ends the member of the group as a crash does, and waits for it

	mu        sync.Mutex
	acked     map[history.Partition]int   // of the patient producer
	failed    int                         // of its records
	reached   map[history.Partition]int64 // by tails
	committed int                         // commits that were acknowledged
}

type loadTopic struct {
	name       string
	durability string
	partitions []history.Partition
}

func newLoad(ctx context.Context, t *testing.T, servers string) *load {
	t.Helper()
	c, err := client.New(client.Config{Server: servers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	l := &load{
		t: t, ctx: ctx, client: c, began: clock.System().Now(), history: history.New(),
		acked: make(map[history.Partition]int), reached: make(map[history.Partition]int64), endMember: func() {},
	}
	l.group = l.history.Group(groupName)
	return l
}

func (l *load) now() int64 { return int64(clock.System().Now().Sub(l.began)) }

// addTopic makes a topic, however often the node dies meanwhile.
func (l *load) addTopic(name, durability string, partitions int32) {
	topic := loadTopic{name: name, durability: durability}
	err := until(l.ctx, "topic "+name+" is made", func() error {
		_, _, err := l.client.CreateTopic(l.ctx, name, partitions, map[string]string{"durability": durability}, true)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for p := range partitions {
		topic.partitions = append(topic.partitions, l.history.Partition(fmt.Sprintf("%s/%d", name, p)))
	}
	l.topics = append(l.topics, topic)
}

// start begins producing and reading.
func (l *load) start() {
	var producing, reading context.Context
	producing, l.stopProducing = context.WithCancel(l.ctx)
	reading, l.stopReading = context.WithCancel(l.ctx)
	l.t.Cleanup(func() { l.stopProducing(); l.stopReading(); l.producing.Wait(); l.reading.Wait() })
	l.producing.Go(func() { l.produce(producing, patientProcess, client.ProducerConfig{}) })
	l.producing.Go(func() {
		l.produce(producing, impatientProcess, client.ProducerConfig{DisableIdempotence: true, DeliveryTimeout: impatience})
	})
	for i, topic := range l.topics {
		l.reading.Go(func() { l.follow(reading, topic, firstTailProcess+int32(i)) })
	}
}

// produce sends a record to each partition every tick until ctx ends, and waits for the answers.
func (l *load) produce(ctx context.Context, who int32, cfg client.ProducerConfig) {
	producer, err := l.client.NewProducer(cfg)
	if err != nil {
		l.t.Error(err)
		return
	}
	for ctx.Err() == nil {
		for _, topic := range l.topics {
			for p := range topic.partitions {
				l.send(ctx, producer, who, topic, int32(p))
			}
		}
		wait(ctx, tick)
	}
	if err := producer.Close(l.ctx); err != nil && l.ctx.Err() == nil { // after the answers to all that it took
		l.t.Errorf("close the producer: %v", err)
	}
}

func (l *load) send(ctx context.Context, producer *client.Producer, who int32, topic loadTopic, partition int32) {
	value := l.value.Add(1)
	handle := topic.partitions[partition]
	sent := history.Produce{Call: history.Call{Process: who, Invoke: l.now()}, Partition: handle, Value: value}
	answered := func(r client.Result) {
		sent.Complete = l.now()
		switch {
		case r.Err == nil:
			sent.Outcome, sent.Offset = history.OK, r.Offset
		case errors.Is(r.Err, client.ErrRefused):
			sent.Outcome = history.Fail
		default:
			sent.Outcome = history.Info
		}
		l.history.Produce(sent)
		if who != patientProcess {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if r.Err == nil {
			l.acked[handle]++
		} else if l.failed++; l.failed == 1 && l.ctx.Err() == nil {
			l.t.Errorf("%s partition %d: a record of the patient producer, and maybe more: %v", topic.name, partition, r.Err)
		}
	}
	bytes := binary.BigEndian.AppendUint64(make([]byte, 0, 64), value)
	err := producer.ProduceTo(ctx, topic.name, partition, record.Record{Value: bytes[:64]}, answered)
	if err != nil && ctx.Err() == nil {
		l.t.Errorf("%s partition %d: a record was not taken: %v", topic.name, partition, err)
	}
}

// follow reads a topic from its start until ctx ends.
func (l *load) follow(ctx context.Context, topic loadTopic, who int32) {
	next := make(map[int32]int64)
	for p := range topic.partitions {
		next[int32(p)] = 0
	}
	for lives := 1; ctx.Err() == nil; lives++ {
		consumer, err := l.client.NewConsumer(topic.name, client.ConsumerConfig{From: client.Offsets(next)})
		if err != nil {
			l.t.Error(err)
			return
		}
		err = l.read(ctx, consumer.Poll, topic, who, history.Group(0), func(partition int32, to int64) {
			next[partition] = to
			l.mu.Lock()
			defer l.mu.Unlock()
			l.reached[topic.partitions[partition]] = to
		})
		consumer.Close()
		if ctx.Err() == nil && lives == 1 {
			l.t.Logf("a consumer of %s begins anew, and maybe again: %v", topic.name, err)
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// read polls and records until ctx ends or an error is final.
func (l *load) read(ctx context.Context, poll func(context.Context) (*client.Batches, error), topic loadTopic, who int32, group history.Group, read func(partition int32, to int64)) error {
	for {
		invoke := l.now()
		batches, err := poll(ctx)
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); !ok || !e.Retryable || ctx.Err() != nil {
				return err
			}
			wait(ctx, 20*time.Millisecond)
			continue
		}
		l.history.Poll(history.Poll{
			Call:      history.Call{Process: who, Invoke: invoke, Complete: l.now()},
			Partition: topic.partitions[batches.Partition], From: batches.From, HighWatermark: batches.HighWatermark,
			Group: group, Generation: -1, Records: l.records(batches),
		})
		read(batches.Partition, batches.Next)
	}
}

func (l *load) records(batches *client.Batches) []history.Record {
	var out []history.Record
	for r, err := range batches.Records() {
		if err != nil || len(r.Value) < 8 {
			l.t.Errorf("%s partition %d from %d: record %d, %d bytes: %v", batches.Topic, batches.Partition, batches.From, r.Offset, len(r.Value), err)
			return out
		}
		out = append(out, history.Record{Offset: r.Offset, Value: binary.BigEndian.Uint64(r.Value)})
	}
	return out
}

// startMember begins a group of one member that commits all the time how far it has read the first topic. It ends with endMember or stop.
func (l *load) startMember(who int32) {
	topic := l.topics[0]
	member, err := l.client.NewGroupConsumer(groupName, []string{topic.name}, client.GroupConfig{AutoCommit: -1, OnAssign: func(given map[string][]int32) {
		for _, p := range given[topic.name] {
			now := l.now()
			l.history.Assign(history.Assign{
				Call:      history.Call{Process: who, Invoke: now, Complete: now},
				Partition: topic.partitions[p], Offset: -1, Group: l.group, Generation: -1,
			})
		}
	}})
	if err != nil {
		l.t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	var work sync.WaitGroup
	work.Go(func() {
		for wait(ctx, commitEvery) {
			l.commit(ctx, member, topic, who)
		}
	})
	work.Go(func() {
		err := l.read(ctx, member.Poll, topic, who, l.group, func(int32, int64) {})
		if ctx.Err() == nil {
			l.t.Errorf("the member of the group has to leave: %v", err)
		}
	})
	l.endMember = sync.OnceFunc(func() {
		cancel()
		work.Wait()
		_ = member.Close(ctx) // it does not leave: ctx has ended
	})
	l.t.Cleanup(l.endMember)
}

// commit commits what was polled.
func (l *load) commit(ctx context.Context, member *client.GroupConsumer, topic loadTopic, who int32) {
	for _, position := range member.Position() {
		invoke := l.now()
		err := member.Commit(ctx, position)
		outcome := history.OK
		if err != nil {
			outcome = history.Info // some of its partitions may be committed and some not
		}
		for p, offset := range position.Offsets {
			l.history.Commit(history.Commit{
				Call:  history.Call{Process: who, Invoke: invoke, Complete: l.now()},
				Group: l.group, Partition: topic.partitions[p], Offset: offset, Generation: -1, Outcome: outcome,
			})
		}
		if err == nil {
			l.mu.Lock()
			l.committed++
			l.mu.Unlock()
		}
	}
}

// readCommitted records what the group has committed.
func (l *load) readCommitted() error {
	invoke := l.now()
	group, err := l.client.DescribeGroup(l.ctx, groupName)
	if err != nil {
		return err
	}
	for _, lag := range group.GetLag() {
		l.history.FetchCommitted(history.FetchCommitted{
			Call:  history.Call{Process: askerProcess, Invoke: invoke, Complete: l.now()},
			Group: l.group, Partition: l.topics[0].partitions[lag.GetPartition()], Offset: lag.GetCommitted(),
		})
	}
	return nil
}

// progress is how much was acknowledged, of records in each partition and of commits.
type progress struct {
	acked     map[history.Partition]int
	committed int
}

func (p progress) records() (n int) {
	for _, acked := range p.acked {
		n += acked
	}
	return n
}

func (l *load) progress() progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return progress{acked: maps.Clone(l.acked), committed: l.committed}
}

// goesOn waits until every partition has acknowledged n records more than it had, and with grouped a commit has been too.
func (l *load) goesOn(since progress, n int, grouped bool) error {
	return until(l.ctx, "records are acknowledged in every partition", func() error {
		now := l.progress()
		for _, topic := range l.topics {
			for i, p := range topic.partitions {
				if now.acked[p] < since.acked[p]+n {
					return fmt.Errorf("%s partition %d has acknowledged %d records after %d", topic.name, i, now.acked[p], since.acked[p])
				}
			}
		}
		if grouped && now.committed <= since.committed {
			return fmt.Errorf("the group has committed %d times and no more", since.committed)
		}
		return nil
	})
}

// stop ends producing, waits until the tails have read everything, and ends them.
func (l *load) stop() error {
	l.stopProducing()
	l.producing.Wait()
	// What the impatient producer gave up may still arrive.
	before := make(map[string]map[int32]int64)
	err := until(l.ctx, "the log stays as it is and the tails are at its end", func() error {
		if !wait(l.ctx, 50*time.Millisecond) {
			return context.Cause(l.ctx)
		}
		for _, topic := range l.topics {
			ends, err := l.client.EndOffsets(l.ctx, topic.name, "")
			if err != nil {
				return err
			}
			if was := before[topic.name]; !maps.Equal(was, ends) {
				before[topic.name] = ends
				return fmt.Errorf("%s ended at %v, and then at %v", topic.name, was, ends)
			}
			for p, end := range ends {
				if at := l.tailAt(topic.partitions[p]); at < end {
					return fmt.Errorf("%s partition %d was read up to %d of %d", topic.name, p, at, end)
				}
			}
		}
		return nil
	})
	l.stopReading()
	l.reading.Wait()
	l.endMember()
	return err
}

func (l *load) tailAt(p history.Partition) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached[p]
}

// readThrough reads everything through one node with a new client, and what the group has committed.
func (l *load) readThrough(n *node) error {
	c, err := client.New(client.Config{Server: n.url(), DisableDirect: true})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, topic := range l.topics {
		if err := l.readTopic(c, "through "+n.id, topic); err != nil {
			return fmt.Errorf("read %s through %s: %w", topic.name, n.id, err)
		}
	}
	return nil
}

func (l *load) readTopic(c *client.Client, source string, topic loadTopic) error {
	consumer, err := c.NewConsumer(topic.name, client.ConsumerConfig{UntilEnd: true})
	if err != nil {
		return err
	}
	defer consumer.Close()
	next := make([]int64, len(topic.partitions))
	for {
		batches, err := consumer.Poll(l.ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(batches.Lost) > 0 {
			return fmt.Errorf("partition %d has lost %v", batches.Partition, batches.Lost)
		}
		p := batches.Partition
		l.history.FinalRead(history.FinalRead{Source: source, Partition: topic.partitions[p], From: next[p], End: batches.Next, Records: l.records(batches)})
		next[p] = batches.Next
	}
	for p, from := range next {
		l.history.FinalRead(history.FinalRead{Source: source, Partition: topic.partitions[p], From: from})
	}
	return nil
}
