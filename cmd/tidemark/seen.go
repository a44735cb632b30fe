package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

const (
	// seenFile remembers how far etcd had come, so that an etcd restored from a backup is not believed: it would give offsets
	// and producer ids out again.
	seenFile = "etcd-seen"
	// rememberSeen is how often it is written.
	rememberSeen = time.Minute
)

// seenBefore is what an earlier process remembered.
type seenBefore struct {
	meta.Seen

	// generation is how often the cluster had been recovered by then; 0 in files of earlier releases.
	generation int64
}

// readSeen reads what an earlier process remembered; zero when there is nothing.
func (d *dataDir) readSeen() (seenBefore, error) {
	text, err := d.read(seenFile)
	if err != nil || text == "" {
		return seenBefore{}, err
	}
	var seen seenBefore
	n, err := fmt.Sscanf(text, "revision %d cluster %x generation %d", &seen.Revision, &seen.EtcdCluster, &seen.generation)
	if err != nil && n < 2 {
		return seenBefore{}, fmt.Errorf("read %s: %q is not what was written there: %w", d.path(seenFile), text, err)
	}
	return seen, nil
}

// writeSeen remembers it.
func (d *dataDir) writeSeen(seen seenBefore) error {
	return d.write(seenFile, fmt.Sprintf("revision %d cluster %x generation %d", seen.Revision, seen.EtcdCluster, seen.generation))
}

// seen is what etcd may not be behind of: what an earlier process remembered, unless the cluster was recovered since.
func (p *nodeProcess) seen(ctx context.Context) (meta.Seen, error) {
	before, err := p.data.readSeen()
	if err != nil {
		return meta.Seen{}, err
	}
	attempt, cancel := context.WithTimeout(ctx, etcdAttempt)
	defer cancel()
	if p.generation, err = meta.Generation(attempt, p.meta.kv, p.cfg.cluster); err != nil {
		return meta.Seen{}, fmt.Errorf("read the cluster's identity from %s: %w", p.meta.where, err)
	}
	if before.generation > 0 && p.generation > before.generation {
		return meta.Seen{}, nil
	}
	return before.Seen, nil
}

// keepSeen remembers how far etcd has come, each minute and when ctx ends. A file that cannot be written is told and tried
// again: it makes a later restore harder to notice, and nothing else.
func (p *nodeProcess) keepSeen(ctx context.Context, client *meta.Client) {
	var last seenBefore
	write := func() {
		seen := seenBefore{Seen: client.Seen(), generation: p.generation}
		if seen == last {
			return
		}
		if err := p.data.writeSeen(seen); err != nil {
			p.deps.logger.Warn("remember how far etcd has come", "cause", err)
			return
		}
		last = seen
	}
	defer write()
	for {
		write()
		timer := p.deps.clock.NewTimer(rememberSeen)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
