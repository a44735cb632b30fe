package meta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// Errors of clusters and nodes that callers act on.
var (
	// ErrRestored: etcd has gone back in time, as after a restore from a backup.
	ErrRestored = errors.New("etcd was restored to an earlier state")
	// ErrRecovering: a recovery of the cluster has begun and not ended; no node may join.
	ErrRecovering = errors.New("the cluster is being recovered")
	// ErrUnknownNode: no node of this name is alive or leads anything.
	ErrUnknownNode = errors.New("unknown node")
	// ErrLastNode: nobody else could take what the node leads.
	ErrLastNode = errors.New("no other node could take its partitions")
	// ErrNodeAlive: the node holds its lease.
	ErrNodeAlive = errors.New("the node is alive")
	// ErrDiskChanged: the node led disk topics with another data directory.
	ErrDiskChanged = errors.New("the node's disk is another")
)

// ForeignClusterError says that etcd belongs to another cluster than the data directory.
type ForeignClusterError struct{ Want, Have string } // Have is "" when etcd holds none

func (e *ForeignClusterError) Error() string {
	if e.Have == "" {
		return fmt.Sprintf("etcd holds no cluster of this name, but this data directory belongs to cluster %s: use the etcd that it was made with, or an empty data directory", e.Want)
	}
	return fmt.Sprintf("etcd holds cluster %s, but this data directory belongs to cluster %s: use the data directory of that cluster, or an empty one", e.Have, e.Want)
}

// HeldError says that a node's name is in use.
type HeldError struct {
	Node       NodeID
	Disk, HTTP string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("node %s is already running with another data directory (disk %s, address %q): stop it, or start this one with another --node-id", e.Node, e.Disk, e.HTTP)
}

// Config is what a Client needs.
type Config struct {
	KV      KV
	Cluster string // name, part of every key
	Clock   clock.Clock
	Random  io.Reader
	Logger  *slog.Logger
	// LowestRevision and EtcdCluster are what Client.Seen said in an earlier life of the data directory, 0 when nothing is
	// remembered. An etcd that lies below, or is another one, is refused with ErrRestored.
	LowestRevision Revision
	EtcdCluster    uint64
}

// Client reads and changes the cluster's metadata. Its methods may be called from any goroutine.
//
// A change is one transaction that compares the revisions it was planned from. When an answer is missing the change is
// planned anew from a fresh read: the revisions compared make sure that at most one copy ever applies, and the read tells
// whether an earlier one did.
type Client struct {
	kv     KV // the guard
	guard  *guard
	keys   Keys
	name   string
	clock  clock.Clock
	random io.Reader
	logger *slog.Logger
	ids    producerBlock
}

// New makes a client. A cluster's name is 1 to 63 letters, digits, '-', '_' and '.'.
func New(c Config) (*Client, error) {
	if c.KV == nil || c.Clock == nil || c.Random == nil {
		return nil, errors.New("meta: KV, Clock and Random are needed")
	}
	if err := ValidateTopicName(c.Cluster); err != nil || len(c.Cluster) > 63 {
		return nil, fmt.Errorf("cluster name %q: want 1 to 63 letters, digits, '-', '_' and '.'", c.Cluster)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	guard := newGuard(c.KV, c.LowestRevision, c.EtcdCluster)
	return &Client{kv: guard, guard: guard, keys: NewKeys(c.Cluster), name: c.Cluster, clock: c.Clock, random: c.Random, logger: c.Logger, ids: newProducerBlock()}, nil
}

// KV is the store below, behind a guard that notices when it goes back in time.
func (c *Client) KV() KV { return c.kv }

// Keys names the cluster's keys.
func (c *Client) Keys() Keys { return c.keys }

// Revision is a revision that is not older than the call.
func (c *Client) Revision(ctx context.Context) (Revision, error) {
	_, revision, err := c.kv.Get(ctx, c.keys.Cluster())
	return revision, err
}

// ClusterInfo is the cluster's identity.
type ClusterInfo struct {
	ID         string
	Generation int64
}

// Cluster reads the cluster's identity. It makes none where there is none, which is an error.
func (c *Client) Cluster(ctx context.Context) (ClusterInfo, error) {
	key := c.keys.Cluster()
	kv, _, err := c.kv.Get(ctx, key)
	switch {
	case err != nil:
		return ClusterInfo{}, fmt.Errorf("read the cluster's id: %w", err)
	case kv == nil:
		return ClusterInfo{}, errors.New("read the cluster's id: etcd holds no cluster of this name")
	}
	var v clusterValue
	if err := decodeJSON(key, kv.Value, &v); err != nil {
		return ClusterInfo{}, err
	}
	return ClusterInfo{ID: v.ID, Generation: v.Generation}, nil
}

// EnsureCluster returns the cluster's identity. want is the id that the caller's data directory remembers; another in etcd, or
// none, is a *ForeignClusterError, for an etcd that was emptied must not look like a log that was. "" makes the identity if
// there is none.
func (c *Client) EnsureCluster(ctx context.Context, want string) (ClusterInfo, error) {
	id := want
	if id == "" {
		drawn, err := NewTopicID(c.random)
		if err != nil {
			return ClusterInfo{}, err
		}
		id = drawn.String()
	}
	if _, err := c.kv.Status(ctx); err != nil { // compares etcd's own id
		return ClusterInfo{}, fmt.Errorf("read or make the cluster's id: %w", err)
	}
	key := c.keys.Cluster()
	value := encodeJSON(clusterValue{Version: valueVersion, ID: id, Generation: 1, Created: c.clock.Now().UTC().Format(time.RFC3339)})
	txn := Txn{If: []Compare{IfAbsent(key)}, Then: []Op{PutOp(key, value)}, Else: []Op{GetOp(key)}}
	if want != "" {
		// A cluster that is remembered was made before: where its key is missing, everything is.
		txn = Txn{Then: []Op{GetOp(key)}}
	}
	result, err := c.kv.Txn(ctx, txn)
	if err != nil {
		return ClusterInfo{}, fmt.Errorf("read or make the cluster's id: %w", err)
	}
	if want == "" && result.Succeeded {
		return ClusterInfo{ID: id, Generation: 1}, nil
	}
	if result.Gets[0] == nil {
		return ClusterInfo{}, &ForeignClusterError{Want: want}
	}
	var v clusterValue
	if err := decodeJSON(key, result.Gets[0].Value, &v); err != nil {
		return ClusterInfo{}, err
	}
	if want != "" && v.ID != want {
		return ClusterInfo{}, &ForeignClusterError{Want: want, Have: v.ID}
	}
	return ClusterInfo{ID: v.ID, Generation: v.Generation}, nil
}

// retry plans and sends a change until attempt says that it is decided. An attempt that failed with an error has an unknown
// outcome and is repeated after a pause, unless repeating it is of no use; one that was refused is repeated at once, since
// somebody else's change was the reason, and after a pause when that goes on.
//
// Each attempt plans anew from a fresh read. That is safe where every plan compares the revision of a key that it puts or
// deletes: at most one of the copies on their way can apply, and what is planned after it starts from what it did.
func (c *Client) retry(ctx context.Context, what string, attempt func() (final bool, err error)) error {
	wait := retryFirst
	for refused := 0; ; {
		final, err := attempt()
		if final {
			return err
		}
		if err == nil {
			if refused++; refused < refusedAtOnce && ctx.Err() == nil {
				continue
			}
			err = errors.New("others keep changing the same keys")
		} else if hopeless(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		c.logger.DebugContext(ctx, "a change of metadata is tried again", "change", what, "cause", err)
		t := c.clock.NewTimer(wait)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%s: %w (%w)", what, err, ctx.Err())
		}
		wait = min(2*wait, retryLongest)
	}
}

// How a change is repeated.
const (
	retryFirst    = 20 * time.Millisecond
	retryLongest  = time.Second
	refusedAtOnce = 8
)

// hopeless tells of errors that stay whatever is tried: what is stored cannot be read, the request cannot be sent, the
// lease is gone, or etcd is another one. A full etcd is not hopeless: it is worth waiting for, as long as the caller does.
func hopeless(err error) bool {
	for _, kind := range []error{ErrFormat, ErrTooLarge, ErrLeaseGone, ErrRestored, ErrFutureRevision} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
