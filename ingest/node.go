package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// Config is what a node is told. The zero value of a field that names a default takes it.
type Config struct {
	// Node is this node's name in the cluster, and Disk the random identity of its data directory: one disk at a time may
	// carry a node's name.
	Node meta.NodeID
	Disk string
	// Info is what the cluster is told besides: addresses, zone, roles.
	Info meta.NodeInfo
	// LogDir is the directory of the write-ahead log; nobody else writes there.
	LogDir string

	LeaseTTL time.Duration // how long the cluster waits for a silent node; 6 s
	// FlushBytes and FlushInterval: an L0 object is cut when so many bytes have gathered, or so long after the first batch
	// that waits for the object store. 8 MiB; 250 ms.
	FlushBytes    int64
	FlushInterval time.Duration
	// IdleFlushInterval is the same for batches that are acknowledged on disk already. 5 s.
	IdleFlushInterval time.Duration
	// TailBytes is the memory for recent batches, 64 MiB; LogBytes is how much may wait on disk for the object store, 4 GiB.
	TailBytes int64
	LogBytes  int64
	// LogFileBytes is the size of one file of the log; 64 MiB.
	LogFileBytes int64
	// ProduceDelay is how long a produce may wait for room before it is refused; 2 s.
	ProduceDelay time.Duration
	// GarbageGrace is how long an object that nothing refers to stays for slow readers; 10 min.
	GarbageGrace time.Duration
}

// Fixed limits, the same on every node.
const (
	maxUploads    = 8
	unloggedBytes = 32 << 20
	parkedBytes   = 32 << 20
	// uncommittedBatches bounds the memory of what waits for the object store: a batch costs some 250 bytes of it.
	uncommittedBatches = 1 << 19
	// GreatestFetchBytes caps what one fetch gives, its first batch apart.
	GreatestFetchBytes = 32 << 20
)

func (c *Config) fill() error {
	if c.Node == "" || c.Disk == "" || c.LogDir == "" {
		return errors.New("ingest: Node, Disk and LogDir are needed")
	}
	setDefault(&c.LeaseTTL, 6*time.Second)
	setDefault(&c.FlushBytes, 8<<20)
	setDefault(&c.FlushInterval, 250*time.Millisecond)
	setDefault(&c.IdleFlushInterval, 5*time.Second)
	setDefault(&c.TailBytes, 64<<20)
	setDefault(&c.LogBytes, 4<<30)
	setDefault(&c.LogFileBytes, 64<<20)
	setDefault(&c.ProduceDelay, 2*time.Second)
	setDefault(&c.GarbageGrace, 10*time.Minute)
	c.Info.ID, c.Info.Disk = c.Node, c.Disk
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Dependencies are the four outside things, and what a node tells about itself.
type Dependencies struct {
	FS     disk.FS
	Clock  clock.Clock
	Store  tier.Store
	Meta   *meta.Client
	Random io.Reader // crypto/rand.Reader outside tests

	Logger    *slog.Logger
	Telemetry *Telemetry
}

// Node owns partitions: it appends, flushes, commits and serves what it owns. Every method may be called from any goroutine.
//
// A Node outlives its incarnations. One incarnation is one registration in etcd; when its lease is lost everything volatile
// is dropped and another begins, from the log on disk. Between two of them, and while etcd or the object store cannot be
// reached at the start, calls get UNAVAILABLE with the cause. What no new incarnation can mend ends the node: see Done.
type Node struct {
	config Config
	deps   Dependencies
	limits record.Limits

	current  atomic.Pointer[incarnation]
	stopping atomic.Bool // Close was called
	closing  atomic.Bool // nothing more is taken

	mu      sync.Mutex
	cause   error         // why there is no incarnation
	changed chan struct{} // closed and replaced at every change of leadership or readiness

	looks    *revisionReads // who leads, asked of etcd
	looking  sync.WaitGroup
	endLooks context.CancelFunc

	stop      context.CancelFunc
	done      chan struct{}
	err       error // after done
	stopGauge func()
}

// Open starts a node and returns at once; it is ready when Ready returns nil. The data directory must be locked by the
// caller, for this process alone. Close it to give everything back; the dependencies stay the caller's.
func Open(config Config, deps Dependencies) (*Node, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Telemetry == nil {
		t, err := NewTelemetry(nil, nil)
		if err != nil {
			return nil, err
		}
		deps.Telemetry = t
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &Node{
		config: config, deps: deps, limits: record.DefaultLimits(),
		cause: errors.New("the node is starting"), changed: make(chan struct{}), stop: stop, done: make(chan struct{}),
	}
	stopGauge, err := deps.Telemetry.ObserveNode(n.levels)
	if err != nil {
		stop()
		return nil, err
	}
	n.stopGauge = stopGauge
	life, endLooks := context.WithCancel(ctx)
	n.looks, n.endLooks = &revisionReads{life: life, work: &n.looking}, endLooks
	go n.supervise(ctx)
	return n, nil
}

// supervise runs one incarnation after the other.
func (n *Node) supervise(ctx context.Context) {
	defer func() {
		n.looks.close()
		n.endLooks()
		n.looking.Wait()
		close(n.done)
	}()
	wait := 50 * time.Millisecond
	for {
		err := n.live(ctx, func() { wait = 50 * time.Millisecond })
		if n.stopping.Load() || ctx.Err() != nil {
			return
		}
		if !begins(err) {
			n.deps.Logger.Error("node stops", "node", n.config.Node, "cause", err)
			n.err = err
			n.setCause(err)
			return
		}
		if n.setCause(err) {
			n.deps.Logger.Warn("node is not ready; it tries again until it is", "node", n.config.Node, "cause", err)
		}
		if !pause(ctx, n.deps.Clock, wait) {
			return
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// live is one incarnation from start to end.
func (n *Node) live(ctx context.Context, ready func()) error {
	i, err := n.begin(ctx)
	if err != nil {
		return err
	}
	n.current.Store(i)
	n.setCause(nil)
	ready()
	n.deps.Logger.Info("node is ready", "node", n.config.Node, "incarnation", fmt.Sprintf("%016x", uint64(i.id)),
		"partitions", len(i.core.partitions), "replayed", i.replayedBatches, "start", n.deps.Clock.Now().Sub(i.began).Round(time.Millisecond).String())
	err = i.run()
	n.current.Store(nil)
	n.notifyChanged()
	return err // supervise tells the cause
}

// begins tells whether a new incarnation may get over an error.
func begins(err error) bool {
	var lost *lostError
	switch {
	case errors.As(err, &lost), errors.Is(err, meta.ErrUnavailable), errors.Is(err, meta.ErrLeaseGone), errors.Is(err, meta.ErrNoSpace),
		errors.Is(err, disk.ErrNoSpace), errors.Is(err, meta.ErrCompacted), errors.Is(err, meta.ErrRecovering), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, tier.ErrUnavailable), errors.Is(err, tier.ErrDenied), errors.Is(err, tier.ErrNoBucket), errors.Is(err, tier.ErrNoSpace):
		var corrupt *wal.CorruptionError
		return !errors.As(err, &corrupt)
	}
	return false
}

// setCause notes why the node is not ready (nil: it is) and tells whether that is news.
func (n *Node) setCause(err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	news := (n.cause == nil) != (err == nil) || (err != nil && n.cause.Error() != err.Error())
	n.cause = err
	close(n.changed)
	n.changed = make(chan struct{})
	return news
}

// notifyChanged wakes who waits for leadership.
func (n *Node) notifyChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change of leadership or readiness.
func (n *Node) change() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Ready is nil when the node serves what is assigned to it, and otherwise the cause why not.
func (n *Node) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping.Load() {
		return errors.New("the node is stopping")
	}
	return n.cause
}

// WaitReady waits until the node is ready, has ended, or ctx ends.
func (n *Node) WaitReady(ctx context.Context) error {
	for {
		changed := n.change()
		cause := n.Ready()
		if cause == nil {
			return nil
		}
		select {
		case <-changed:
		case <-n.done:
			if n.err != nil {
				return n.err
			}
			return cause
		case <-ctx.Done():
			return fmt.Errorf("the node is not ready: %w", cause)
		}
	}
}

// Done is closed when the node has ended, by Close or by itself.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is why the node ended by itself, once Done is closed; nil after a Close.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// handOverPatience bounds how long a node that stops waits for what only helps others to lead sooner: to be known as stopping, and to
// have let go.
const handOverPatience = 10 * time.Second

// announcePatience bounds the first part of it, in which produces are still taken: an etcd that is slower than this is of no help.
const announcePatience = 3 * time.Second

// Close hands over and stops. It tells the cluster that the node is stopping, takes nothing more, flushes and commits what is there
// as long as ctx allows, and lets every partition go when another node can lead it, with the same commits; consumers read on until then. It
// releases the lease last. What could not be flushed stays in the log on disk for the next start, and with it the lead of
// what promises the disk. Safe to call twice.
func (n *Node) Close(ctx context.Context) error {
	if !n.stopping.Swap(true) {
		n.stopGauge()
		n.setCause(errors.New("the node is stopping"))
		if i := n.current.Load(); i != nil {
			patience, cancel := context.WithTimeout(ctx, handOverPatience)
			if err := i.announceStop(patience); err != nil {
				n.deps.Logger.Info("the cluster could not be told that the node stops; its partitions move when its lease has run out", "node", n.config.Node, "cause", err)
			}
			n.closing.Store(true)
			i.drain(ctx, patience)
			cancel()
		}
		n.closing.Store(true)
		n.stop()
	}
	select {
	case <-n.done:
		return n.err
	case <-ctx.Done():
		<-n.done // every goroutine is awaited; what they do is bounded
		return n.err
	}
}

// serving returns the incarnation that takes requests, or why there is none.
func (n *Node) serving() (*incarnation, *Error) {
	if n.closing.Load() {
		return nil, Errorf(ReasonShuttingDown, "the node is stopping; nothing of this request was taken")
	}
	return n.reading()
}

// reading returns the incarnation that is read from: also one that takes nothing more, until it ends.
func (n *Node) reading() (*incarnation, *Error) {
	if i := n.current.Load(); i != nil {
		return i, nil
	}
	cause := n.Ready()
	if cause == nil { // between two incarnations, before the cause is told
		cause = errors.New("it begins anew")
	}
	return nil, Errorf(ReasonUnavailable, "the node is not ready: %w", cause).WithRetryAfter(200 * time.Millisecond)
}

// levels feeds the gauges.
func (n *Node) levels() NodeLevels {
	i := n.current.Load()
	if i == nil {
		return NodeLevels{}
	}
	out := NodeLevels{LogBytes: i.log.Size(), MetaRevision: i.follower.Revision()}
	got := make(chan NodeLevels, 1)
	if !i.post(func(time.Time) {
		l := NodeLevels{
			Partitions: int64(len(i.core.partitions)), BufferedBytes: i.core.tail.cachedSize,
			InFlight: int64(i.core.commit.pending()), CommitSequence: int64(i.core.commit.seq),
		}
		for _, p := range i.core.partitions {
			l.WaitingAcks += int64(len(p.allWaiters) + len(p.leaderWaiters))
		}
		got <- l
	}) {
		return out
	}
	l := <-got
	l.LogBytes, l.MetaRevision = out.LogBytes, out.MetaRevision
	return l
}
