package ingest

import (
	"context"
	"log/slog"

	"github.com/tidemark-io/tidemark/meta"
)

// alone is a router for tests that reaches nobody but this node: it answers for what the node leads and for what the index knows.
func (n *Node) alone() *Router {
	return newRouter(n.config.Node, func() (homeNode, *Error) { return n, nil }, noPeers(n.config.Node), RouterConfig{
		Clock: n.deps.Clock, Logger: slog.New(slog.DiscardHandler), Telemetry: n.deps.Telemetry,
	})
}

// noPeers knows nobody.
type noPeers meta.NodeID

func (noPeers) Peer(meta.NodeID) (Peer, bool) { return Peer{}, false }

func (p noPeers) Self() meta.NodeID { return meta.NodeID(p) }

// CreateTopic is Router.CreateTopic, by a node that reaches no other.
func (n *Node) CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (topic meta.Topic, created bool, err error) {
	return n.alone().CreateTopic(ctx, name, partitions, config, ifNotExists)
}

// Topic is Router.Topic, by a node that reaches no other.
func (n *Node) Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	return n.alone().Topic(ctx, name)
}

// Ends is Router.Ends, by a node that reaches no other.
func (n *Node) Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	return n.alone().Ends(ctx, name)
}

// Topics is Router.Topics.
func (n *Node) Topics(ctx context.Context) ([]meta.Topic, error) { return n.alone().Topics(ctx) }

// UpdateTopic is Router.UpdateTopic, by a node that reaches no other.
func (n *Node) UpdateTopic(ctx context.Context, name string, config map[string]string) (meta.Topic, error) {
	return n.alone().UpdateTopic(ctx, name, config)
}

// AddPartitions is Router.AddPartitions, by a node that reaches no other.
func (n *Node) AddPartitions(ctx context.Context, name string, total int32) (meta.Topic, error) {
	return n.alone().AddPartitions(ctx, name, total)
}

// DeleteTopic is Router.DeleteTopic.
func (n *Node) DeleteTopic(ctx context.Context, name string) error {
	return n.alone().DeleteTopic(ctx, name)
}
