package ingest

import (
	"context"

	"github.com/tidemark-io/tidemark/meta"
)

// ClusterIndex is what this node knows of the cluster, as of Revision: topics, nodes and who leads what. It lives as long as the node's
// incarnation, and goes on with the cluster.
type ClusterIndex = clusterIndex

// Index is the cluster as this node knows it, or why it knows nothing.
func (r *Router) Index() (ClusterIndex, error) {
	home, refused := r.home()
	if refused != nil {
		return nil, refused
	}
	life, refused := home.life()
	if refused != nil {
		return nil, refused
	}
	return life.cluster(), nil
}

// ClusterID is the cluster's identity, which never changes.
func (r *Router) ClusterID(ctx context.Context) (string, error) {
	r.infoMu.Lock()
	known := r.info.ID
	r.infoMu.Unlock()
	if known != "" {
		return known, nil
	}
	h, refused := r.here(ctx)
	if refused != nil {
		return "", refused
	}
	info, err := r.clusterInfo(ctx, h)
	if err != nil {
		return "", metaError("read the cluster's id", err)
	}
	return info.ID, nil
}

// LeaderNow tells which node leads a partition, as far as an index knows; false when nobody does who is alive.
func LeaderNow(index ClusterIndex, topic meta.Topic, partition int32) (meta.Leadership, bool) {
	l, waitsFor := ledBy(index, topic, partition)
	return l, waitsFor == ""
}
