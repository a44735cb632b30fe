package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// lateNode stands in for a node that cannot be opened yet, because etcd or the object store does not answer. The port is open
// from the start and says why; once the node is there everything goes to it.
type lateNode struct {
	mu    sync.RWMutex
	node  *ingest.Node
	cause error
}

var _ ingest.ServiceNode = (*lateNode)(nil)

func newLateNode(waitingFor string) *lateNode {
	return &lateNode{cause: errors.New("the node is starting: it waits for " + waitingFor)}
}

// waitFor notes why there is no node yet and tells whether that is news.
func (l *lateNode) waitFor(cause error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.cause == nil || l.cause.Error() != cause.Error()
	l.cause = cause
	return news
}

func (l *lateNode) arrive(n *ingest.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node, l.cause = n, nil
}

func (l *lateNode) get() (*ingest.Node, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.node == nil {
		return nil, ingest.Errorf(ingest.ReasonUnavailable, "the node is not ready: %w", l.cause).WithRetryAfter(time.Second)
	}
	return l.node, nil
}

// ready is nil, or why not.
func (l *lateNode) ready() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.node == nil {
		return l.cause
	}
	return l.node.Ready()
}

// alive is nil, or the cause that ended the node.
func (l *lateNode) alive() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.node == nil {
		return nil
	}
	return l.node.Err()
}

func (l *lateNode) CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (meta.Topic, bool, error) {
	n, err := l.get()
	if err != nil {
		return meta.Topic{}, false, err
	}
	return n.CreateTopic(ctx, name, partitions, config, ifNotExists)
}

func (l *lateNode) Topic(ctx context.Context, name string) (meta.Topic, []ingest.PartitionState, error) {
	n, err := l.get()
	if err != nil {
		return meta.Topic{}, nil, err
	}
	return n.Topic(ctx, name)
}

func (l *lateNode) Ends(ctx context.Context, name string) (meta.Topic, []ingest.PartitionState, error) {
	n, err := l.get()
	if err != nil {
		return meta.Topic{}, nil, err
	}
	return n.Ends(ctx, name)
}

func (l *lateNode) Topics(ctx context.Context) ([]meta.Topic, error) {
	n, err := l.get()
	if err != nil {
		return nil, err
	}
	return n.Topics(ctx)
}

func (l *lateNode) UpdateTopic(ctx context.Context, name string, config map[string]string) (meta.Topic, error) {
	n, err := l.get()
	if err != nil {
		return meta.Topic{}, err
	}
	return n.UpdateTopic(ctx, name, config)
}

func (l *lateNode) AddPartitions(ctx context.Context, name string, total int32) (meta.Topic, error) {
	n, err := l.get()
	if err != nil {
		return meta.Topic{}, err
	}
	return n.AddPartitions(ctx, name, total)
}

func (l *lateNode) DeleteTopic(ctx context.Context, name string) error {
	n, err := l.get()
	if err != nil {
		return err
	}
	return n.DeleteTopic(ctx, name)
}

func (l *lateNode) OffsetForTime(ctx context.Context, topic string, partition int32, timestampMs int64) (int64, error) {
	n, err := l.get()
	if err != nil {
		return 0, err
	}
	return n.OffsetForTime(ctx, topic, partition, timestampMs)
}

func (l *lateNode) ProduceAsync(ctx context.Context, r ingest.ProduceRequest, done func(ingest.ProduceResult, error)) {
	n, err := l.get()
	if err != nil {
		done(ingest.ProduceResult{}, err)
		return
	}
	n.ProduceAsync(ctx, r, done)
}

func (l *lateNode) InitProducer(ctx context.Context) (id int64, epoch int16, err error) {
	n, err := l.get()
	if err != nil {
		return 0, 0, err
	}
	return n.InitProducer(ctx)
}

func (l *lateNode) Fetch(ctx context.Context, r ingest.FetchRequest) ([]ingest.PartitionBatches, error) {
	n, err := l.get()
	if err != nil {
		return nil, err
	}
	return n.Fetch(ctx, r)
}
