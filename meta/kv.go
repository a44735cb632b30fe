package meta

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Revision is a position in the history of the metadata store. Every transaction that writes gets the next one; all its
// changes share it. Revisions of one cluster never come back: a compare that failed on a revision fails for ever. Only
// restoring a backup breaks that, which Status.ClusterID and Status.Revision help to notice.
type Revision = int64

// LeaseID names a lease of the store. 0 means no lease.
type LeaseID int64

// KeyValue is one key as it stood at some revision. Value may be kept but not changed: several watchers may share it.
type KeyValue struct {
	Key   string
	Value []byte
	// Create is the revision at which the key came into being, Mod that of its last put: 0 < Create <= Mod. Deleting
	// and putting a key again gives it a new Create.
	Create, Mod Revision
	// Lease is the lease that the key goes with, 0 for none.
	Lease LeaseID
}

// Compare is one condition of a transaction. Both revisions 0 demands that the key is absent; otherwise every one that
// is not 0 must equal the key's.
type Compare struct {
	Key    string
	Mod    Revision
	Create Revision
}

// IfMod holds while key is as revision mod left it; mod 0 demands that it is absent.
func IfMod(key string, mod Revision) Compare { return Compare{Key: key, Mod: mod} }

// IfAbsent holds while there is no key.
func IfAbsent(key string) Compare { return Compare{Key: key} }

// IfCreate holds while key is the one that came into being at revision create, however often it was put since; create 0
// demands that it is absent.
func IfCreate(key string, create Revision) Compare { return Compare{Key: key, Create: create} }

// OpKind says what an Op does. The zero value is not valid.
type OpKind uint8

// The kinds of operations.
const (
	Put    OpKind = 1 + iota // set Key to Value, on Lease if that is not 0
	Delete                   // remove Key; removing an absent key is no error
	Get                      // read Key as it is after the operations before it in the same branch
)

// Op is one operation of a transaction, on exactly one key.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte  // only of Put; not changed by the store and not kept after Txn returned
	Lease LeaseID // only of Put; 0 takes the key off its lease
}

// PutOp sets key to value, on no lease.
func PutOp(key string, value []byte) Op { return Op{Kind: Put, Key: key, Value: value} }

// PutLeasedOp sets key to value; the key goes when the lease does.
func PutLeasedOp(key string, value []byte, lease LeaseID) Op {
	return Op{Kind: Put, Key: key, Value: value, Lease: lease}
}

// DeleteOp removes key.
func DeleteOp(key string) Op { return Op{Kind: Delete, Key: key} }

// GetOp reads key.
func GetOp(key string) Op { return Op{Kind: Get, Key: key} }

// Txn is an atomic transaction: if every compare of If holds, the operations of Then take effect, otherwise those of
// Else. A branch puts or deletes a key at most once.
type Txn struct {
	If         []Compare
	Then, Else []Op
}

// TxnResult is the store's definite answer to a Txn.
type TxnResult struct {
	// Succeeded says that every compare held, so that Then took effect and Else did not.
	Succeeded bool
	// Revision is that of the transaction's own changes or, if it changed nothing, the store's when it was decided.
	Revision Revision
	// Gets holds one element for each Get of the branch taken, in order; nil where the key was absent.
	Gets []*KeyValue
}

// Limits of one transaction: those of an etcd with its default flags. They are checked before anything is sent.
const (
	// MaxTxnOps bounds each of If, Then and Else.
	MaxTxnOps = 128
	// MaxTxnBytes bounds Txn.Size.
	MaxTxnBytes = 3 << 19 // 1.5 MiB
	// opOverhead is more than the framing of one compare or operation takes on the wire.
	opOverhead = 64
)

// Size returns an upper bound of the bytes that the transaction takes as a request.
func (t Txn) Size() int {
	n := 2 * opOverhead
	for _, c := range t.If {
		n += 2 * (opOverhead + len(c.Key))
	}
	for _, ops := range [2][]Op{t.Then, t.Else} {
		for _, op := range ops {
			n += opOverhead + len(op.Key) + len(op.Value)
		}
	}
	return n
}

// Validate reports whether the transaction may be sent. It returns an error that wraps ErrTooLarge when a limit is
// passed, or another one for a transaction that no store can execute, which is a bug of the caller.
func (t Txn) Validate() error {
	compares := 0
	for _, c := range t.If {
		if c.Key == "" {
			return errors.New("check transaction: a compare without a key")
		}
		if c.Mod < 0 || c.Create < 0 {
			return fmt.Errorf("check transaction: compare of %q with a negative revision", c.Key)
		}
		compares++
		if c.Mod != 0 && c.Create != 0 {
			compares++
		}
	}
	if n := max(compares, len(t.Then), len(t.Else)); n > MaxTxnOps {
		return fmt.Errorf("check transaction: %d operations where %d are allowed: %w", n, MaxTxnOps, ErrTooLarge)
	}
	for _, ops := range [2][]Op{t.Then, t.Else} {
		if err := validateBranch(ops); err != nil {
			return err
		}
	}
	if n := t.Size(); n > MaxTxnBytes {
		return fmt.Errorf("check transaction: %d bytes where %d are allowed: %w", n, MaxTxnBytes, ErrTooLarge)
	}
	return nil
}

func validateBranch(ops []Op) error {
	written := make(map[string]struct{}, len(ops))
	for _, op := range ops {
		if op.Key == "" {
			return errors.New("check transaction: an operation without a key")
		}
		switch op.Kind {
		case Put:
		case Delete, Get:
			if op.Value != nil || op.Lease != 0 {
				return fmt.Errorf("check transaction: a value or lease where %q is not put", op.Key)
			}
		default:
			return fmt.Errorf("check transaction: operation of kind %d on %q", op.Kind, op.Key)
		}
		if op.Kind == Get {
			continue
		}
		if _, twice := written[op.Key]; twice {
			return fmt.Errorf("check transaction: %q is written twice in one branch", op.Key)
		}
		written[op.Key] = struct{}{}
	}
	return nil
}

// EventType says what happened to a key.
type EventType uint8

// The types of events.
const (
	EventPut    EventType = 1 + iota // KV holds the key as it now is
	EventDelete                      // KV holds only Key and, in Mod, the revision of the deletion; also when a lease ended
)

// Event is what one revision did to one key.
type Event struct {
	Type EventType
	KV   KeyValue
}

// Change is everything that one revision did under a watched prefix. Without events, which happens only as the answer to
// a Watcher.RequestProgress, of this watch or of another one, it says that whatever was done at Revision or below has been delivered.
type Change struct {
	Revision Revision
	Events   []Event
}

// Watcher is one running watch. Next is for one goroutine at a time; Close may be called from any, more than once.
type Watcher interface {
	// Next waits for the next change and returns it. Changes come in ascending revisions, none missing, none twice, and
	// each complete. What is not fetched waits in memory, so the caller calls it again soon. An error of ctx leaves the
	// watch as it was; any other ends it: after ErrCompacted the revision needed is gone and the reader lists again, after
	// all others it watches again from the revision after the last one received.
	Next(ctx context.Context) (Change, error)
	// RequestProgress asks for a Change that tells how far the watch has come, which Next delivers soon after. A prefix
	// that nobody writes to stays silent while the store's revision moves on, so whoever waits for a revision asks.
	// Answers may be merged, and are lost with a connection: ask again while waiting. It may be called beside Next.
	RequestProgress(ctx context.Context) error
	// Close ends the watch and frees what it holds. A Next that waits returns ErrWatchClosed.
	Close()
}

// Status describes the metadata store and the member that answered.
type Status struct {
	// DBSize is the size of the database file in bytes, DBInUse the part of it that holds data.
	DBSize, DBInUse int64
	// Version is that of the server, such as "3.7.3".
	Version string
	// ClusterID tells one etcd cluster from another and stays the same for its whole life.
	ClusterID uint64
	// Leader says that the cluster has a leader, so that it can take writes.
	Leader bool
	// Revision is the member's current one.
	Revision Revision
	// Alarms names the alarms raised, such as "NOSPACE" and "CORRUPT". It is empty on a healthy cluster.
	Alarms []string
}

// KV is the seam between Tidemark and the store that holds its metadata: etcd, or package metafake in tests. Package
// metatest is the contract that both obey. Every method may be called from any goroutine; all of them return soon after
// ctx is done.
//
// Errors are of a few kinds, told apart with errors.Is: ErrUnavailable, ErrNoSpace, ErrTooLarge, ErrCompacted,
// ErrFutureRevision, ErrLeaseGone, and ctx's own.
type KV interface {
	// Txn executes one transaction, durably once it returned without error.
	//
	// Nobody below Txn ever sends a transaction twice. An error means that the outcome is unknown: the transaction may
	// have taken effect, or may yet at any later time, since a request that was given up may still be on its way. It
	// is for the caller to send the same transaction again until the store decides, and to write it so that only one
	// of its copies can succeed (by comparing the mod revision of a key that it puts). There are two exceptions: when
	// errors.Is(err, ErrTooLarge), or when Txn.Validate fails, this copy was refused before anything was done; when
	// errors.Is(err, ErrLeaseGone), neither this copy nor any later one can succeed, for a lease that is gone stays gone,
	// but an earlier one may have.
	Txn(ctx context.Context, txn Txn) (TxnResult, error)
	// Get returns the key, nil if it is absent, and the revision at which that held. It is linearizable: it sees every
	// transaction that returned before Get was called.
	Get(ctx context.Context, key string) (*KeyValue, Revision, error)
	// Range returns all keys under prefix, in ascending order of key, as they were at one revision, and that revision.
	// at 0 asks for a current, linearizable one; otherwise it fails with ErrCompacted when at is no longer kept and
	// with ErrFutureRevision when the store has not reached it.
	Range(ctx context.Context, prefix string, at Revision) ([]KeyValue, Revision, error)
	// Watch delivers every change under prefix made at revision from or later; from must be above 0 and may lie in the
	// future. The watch lives until Close; ctx bounds only its start. A watch from a compacted revision may be refused
	// here or by the first Next, with ErrCompacted.
	Watch(ctx context.Context, prefix string, from Revision) (Watcher, error)
	// Grant makes a lease that ends when it was not kept alive for ttl, which is rounded up to whole seconds. An error
	// may leave a lease behind; it ends by itself. A store may give more time than was asked for.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive renews the lease once and returns the time it now has, counted from a moment after the call began. It
	// fails with ErrLeaseGone when the lease ended.
	KeepAlive(ctx context.Context, lease LeaseID) (time.Duration, error)
	// Revoke ends the lease and deletes its keys, in one revision. It fails with ErrLeaseGone when the lease ended before.
	Revoke(ctx context.Context, lease LeaseID) error
	// Compact forgets what was overwritten or deleted at or below revision: older ones can no longer be listed or
	// watched. It fails with ErrCompacted when that was done before and with ErrFutureRevision above the current one.
	Compact(ctx context.Context, revision Revision) error
	// Status asks one member how it is.
	Status(ctx context.Context) (Status, error)
}

// Kinds of errors of a KV. What is returned wraps one of them and says what to do next.
var (
	// ErrUnavailable: nobody answered, there is no leader, or the store is too busy. Trying again later is right.
	ErrUnavailable = errors.New("metadata store unavailable")
	// ErrNoSpace: the store's quota is full. It refuses writes until it is compacted, defragmented and disarmed; etcd may have applied the first of them.
	ErrNoSpace = errors.New("metadata store full")
	// ErrTooLarge: the transaction passes MaxTxnOps or MaxTxnBytes and was not sent, or the store's own limits are lower
	// and it refused.
	ErrTooLarge = errors.New("transaction too large")
	// ErrCompacted: the revision asked for is no longer kept.
	ErrCompacted = errors.New("revision compacted")
	// ErrFutureRevision: the revision asked for lies above the store's current one. If the store was seen at it
	// before, the store was restored from a backup.
	ErrFutureRevision = errors.New("revision not reached")
	// ErrLeaseGone: the lease expired or was revoked, and never comes back.
	ErrLeaseGone = errors.New("lease gone")
	// ErrWatchClosed: Close was called on the Watcher.
	ErrWatchClosed = errors.New("watch closed")
)
