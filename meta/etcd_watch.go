package meta

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdWatcher gives the events of a watch as whole revisions. etcd ends every answer at the end of a revision, unless the
// answer is large: then it comes in fragments, which the client library joins. When a connection breaks the library watches
// again from the revision after the last complete answer. Events are gathered by revision here, and an answer that goes on
// with a revision given out already, which would break that promise, ends the watch.
type etcdWatcher struct {
	etcd    *etcd
	answers clientv3.WatchChan
	life    context.Context // ends with Close; requests of progress must name the same stream of watches
	cancel  context.CancelFunc
	ready   []Change
	given   Revision // the last one gathered
	over    error
}

func (e *etcd) Watch(ctx context.Context, prefix string, from Revision) (Watcher, error) {
	if from <= 0 {
		return nil, fmt.Errorf("watch %s from revision %d: revisions begin at 1", prefix, from)
	}
	what := "watch " + prefix
	// The library would wait for an etcd that is away; a read finds out at once.
	if err := e.read(ctx, what, func(ctx context.Context) error {
		_, err := e.client.Get(ctx, prefix, clientv3.WithSerializable(), clientv3.WithCountOnly())
		return err
	}); err != nil {
		return nil, err
	}
	// With the leader required, a watch on a member that is cut off ends instead of falling silent.
	life, cancel := context.WithCancel(context.Background())
	w := &etcdWatcher{etcd: e, life: clientv3.WithRequireLeader(life), cancel: cancel}
	bounded, done := bound(ctx)
	defer done()
	started := context.AfterFunc(bounded, cancel)
	w.answers = e.client.Watch(w.life, prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment())
	if !started() {
		return nil, e.classify(ctx, what, bounded.Err())
	}
	return w, nil
}

func (w *etcdWatcher) Next(ctx context.Context) (Change, error) {
	for len(w.ready) == 0 {
		if w.over != nil {
			return Change{}, w.over
		}
		select {
		case answer, open := <-w.answers:
			w.take(answer, open)
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
	out := w.ready[0]
	w.ready = w.ready[1:]
	return out, nil
}

func (w *etcdWatcher) take(answer clientv3.WatchResponse, open bool) {
	if !open {
		w.over = fmt.Errorf("watch: %w", ErrWatchClosed)
		if w.life.Err() == nil { // the client was closed, not the watch
			w.over = fmt.Errorf("watch: %w: the connection to %s was closed", ErrUnavailable, w.etcd.where())
		}
		return
	}
	before := len(w.ready)
	for _, e := range answer.Events {
		event := Event{Type: EventPut, KV: *keyValue(e.Kv)}
		if e.Type == mvccpb.Event_DELETE {
			event = Event{Type: EventDelete, KV: KeyValue{Key: string(e.Kv.Key), Mod: e.Kv.ModRevision}}
		}
		n := len(w.ready)
		if n == before || w.ready[n-1].Revision != event.KV.Mod {
			if event.KV.Mod <= w.given {
				w.over = fmt.Errorf("watch: %w: %s split or repeated revision %d", ErrCompacted, w.etcd.where(), event.KV.Mod)
				return
			}
			w.given = event.KV.Mod
			w.ready = append(w.ready, Change{Revision: event.KV.Mod})
			n++
		}
		w.ready[n-1].Events = append(w.ready[n-1].Events, event)
	}
	if answer.IsProgressNotify() && answer.Header.Revision >= w.given {
		w.given = answer.Header.Revision
		w.ready = append(w.ready, Change{Revision: w.given})
	}
	err := answer.Err()
	switch {
	case answer.CompactRevision > 0:
		w.over = fmt.Errorf("watch: %w: history begins at revision %d", ErrCompacted, answer.CompactRevision)
	case err != nil && w.life.Err() != nil:
		w.over = fmt.Errorf("watch: %w", ErrWatchClosed)
	case err != nil:
		w.over = w.etcd.classify(w.life, "watch", err)
	}
}

func (w *etcdWatcher) Close() { w.cancel() }

func (w *etcdWatcher) RequestProgress(ctx context.Context) error {
	if w.life.Err() != nil {
		return fmt.Errorf("ask how far the watch is: %w", ErrWatchClosed)
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	// The stream is found by the metadata of the context, which all our watches share.
	err := w.etcd.client.RequestProgress(clientv3.WithRequireLeader(bounded))
	return w.etcd.classify(ctx, "ask how far the watch is", err)
}
