package meta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// When history is compacted. etcd keeps every version of every key until somebody says that it may go; a node that commits
// once in 250 ms makes 700,000 in two days.
const (
	// KeepRevisions is how much history a compaction leaves. A follower that lags by more lists anew, and a listing that
	// takes longer than so many revisions begins anew: at 1,000 commits a second that is 10 s.
	KeepRevisions Revision = 10_000
	// CompactRevisions and CompactInterval are how many revisions or how much time pass between two compactions.
	CompactRevisions Revision = 10_000
	CompactInterval           = 5 * time.Minute
	// compactorPoll is how often the revision is looked up.
	compactorPoll = 10 * time.Second
	// reclaimBytes is the size of a database file that is not worth the pause that making it smaller costs.
	reclaimBytes = 32 << 20
)

// CompactorConfig is what a Compactor is told.
type CompactorConfig struct {
	KV     KV
	Clock  clock.Clock
	Logger *slog.Logger // nil for none
	// Reclaim gives the free space in the database back and lowers the alarm of a full one, while requests wait. It is
	// called when the file is above 32 MiB and less than half in use, or when the store is full. It is nil for an etcd
	// that others operate: there it is for them to defragment, one member after the other.
	Reclaim func(context.Context) error
}

// Compactor compacts the history of the metadata store. Every node may run one: a compaction that another node made before
// is no error.
type Compactor struct {
	config CompactorConfig
	last   Revision  // up to which this one compacted
	at     time.Time // when
}

// NewCompactor makes a compactor, which does nothing until Run.
func NewCompactor(c CompactorConfig) *Compactor {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Compactor{config: c}
}

// Run compacts until ctx is done. Failures are logged and tried again.
func (c *Compactor) Run(ctx context.Context) {
	c.at = c.config.Clock.Now()
	timer := c.config.Clock.NewTimer(compactorPoll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		}
		if err := c.step(ctx); err != nil && ctx.Err() == nil {
			c.config.Logger.Warn("compacting metadata failed; trying again", "cause", err, "in", compactorPoll)
		}
		timer.Reset(compactorPoll)
	}
}

// step looks once, and compacts and reclaims if it is time.
func (c *Compactor) step(ctx context.Context) error {
	status, err := c.config.KV.Status(ctx)
	if err != nil {
		return err
	}
	now, full := c.config.Clock.Now(), slices.Contains(status.Alarms, "NOSPACE")
	to := compactTo(c.last, status.Revision, now.Sub(c.at))
	if full {
		to = status.Revision - KeepRevisions
	}
	compacted := false
	if to > c.last && to > 0 {
		err := c.config.KV.Compact(ctx, to)
		if err != nil && !errors.Is(err, ErrCompacted) {
			return fmt.Errorf("compact metadata up to revision %d: %w", to, err)
		}
		compacted = true
		c.config.Logger.Debug("compacted metadata", "revision", to, "database", status.DBSize, "in_use", status.DBInUse)
	}
	if to > 0 {
		c.last, c.at = max(c.last, to), now
	}
	if c.config.Reclaim == nil || compacted && !full || !full && !wasteful(status) {
		return nil // what a compaction frees shows at the next look
	}
	if err := c.config.Reclaim(ctx); err != nil {
		return fmt.Errorf("reclaim the space of metadata: %w", err)
	}
	c.config.Logger.Debug("reclaimed the space of metadata", "database", status.DBSize, "in_use", status.DBInUse)
	return nil
}

// compactTo says up to which revision to compact, 0 for not now: last is up to where that was done, since how long ago.
func compactTo(last, current Revision, since time.Duration) Revision {
	to := current - KeepRevisions
	switch {
	case to <= last:
		return 0
	case to-last >= CompactRevisions, since >= CompactInterval:
		return to
	}
	return 0
}

func wasteful(s Status) bool { return s.DBSize > reclaimBytes && s.DBInUse < s.DBSize/2 }
