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

// readSeen reads what an earlier process remembered; zero when there is nothing.
func (d *dataDir) readSeen() (meta.Seen, error) {
	text, err := d.read(seenFile)
	if err != nil || text == "" {
		return meta.Seen{}, err
	}
	var seen meta.Seen
	if _, err := fmt.Sscanf(text, "revision %d cluster %x", &seen.Revision, &seen.EtcdCluster); err != nil {
		return meta.Seen{}, fmt.Errorf("read %s: %q is not what was written there: %w", d.path(seenFile), text, err)
	}
	return seen, nil
}

// writeSeen remembers it.
func (d *dataDir) writeSeen(seen meta.Seen) error {
	return d.write(seenFile, fmt.Sprintf("revision %d cluster %x", seen.Revision, seen.EtcdCluster))
}

// keepSeen remembers how far etcd has come, each minute and when ctx ends. A file that cannot be written is told and tried
// again: it makes a later restore harder to notice, and nothing else.
func (p *nodeProcess) keepSeen(ctx context.Context, client *meta.Client) {
	var last meta.Seen
	write := func() {
		seen := client.Seen()
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
