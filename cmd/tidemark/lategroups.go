package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// lateGroupStore is the metadata store of consumer groups from the moment when the port opens: etcd may come later. Until then the
// node has no seat for groups either, so that nobody gets here.
type lateGroupStore struct{ client atomic.Pointer[meta.Client] }

var _ ingest.GroupStore = (*lateGroupStore)(nil)

func (l *lateGroupStore) arrive(c *meta.Client) { l.client.Store(c) }

func (l *lateGroupStore) get() (*meta.Client, error) {
	c := l.client.Load()
	if c == nil {
		return nil, fmt.Errorf("the node is starting: %w", meta.ErrUnavailable)
	}
	return c, nil
}

// ClaimGroup is that of meta.Client.
func (l *lateGroupStore) ClaimGroup(ctx context.Context, name string, reg meta.Registration) (meta.GroupClaim, meta.GroupState, map[meta.TopicID]meta.GroupOffsets, error) {
	c, err := l.get()
	if err != nil {
		return meta.GroupClaim{}, meta.GroupState{}, nil, err
	}
	return c.ClaimGroup(ctx, name, reg)
}

// WriteGroup is that of meta.Client.
func (l *lateGroupStore) WriteGroup(ctx context.Context, claim meta.GroupClaim, w meta.GroupWrite) (meta.GroupClaim, error) {
	c, err := l.get()
	if err != nil {
		return meta.GroupClaim{}, err
	}
	return c.WriteGroup(ctx, claim, w)
}

// HoldsGroup is that of meta.Client.
func (l *lateGroupStore) HoldsGroup(ctx context.Context, claim meta.GroupClaim) error {
	c, err := l.get()
	if err != nil {
		return err
	}
	return c.HoldsGroup(ctx, claim)
}

// GroupExists is that of meta.Client.
func (l *lateGroupStore) GroupExists(ctx context.Context, name string) (bool, error) {
	c, err := l.get()
	if err != nil {
		return false, err
	}
	return c.GroupExists(ctx, name)
}

// StoredGroups is that of meta.Client.
func (l *lateGroupStore) StoredGroups(ctx context.Context) ([]meta.StoredGroup, error) {
	c, err := l.get()
	if err != nil {
		return nil, err
	}
	return c.StoredGroups(ctx)
}
