package meta

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdWatcher gives the events of a watch as whole revisions. etcd sends a revision whole unless it is large; then it comes
// in fragments, which the client library joins. Nothing says that one answer holds one revision, or ends with a whole one:
// events are gathered by revision, and a revision is given out when a later one has begun or the answer has ended.
type etcdWatcher struct {
	etcd    *etcd
	answers clientv3.WatchChan
	cancel  context.CancelFunc
	ready   []Change
	over    error
}

func (e *etcd) Watch(ctx context.Context, prefix string, from Revision) (Watcher, error) {
	if from <= 0 {
		return nil, fmt.Errorf("watch %s from revision %d: revisions begin at 1", prefix, from)
	}
	if err := ctx.Err(); err != nil {
		return nil, e.classify("watch "+prefix, err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &etcdWatcher{etcd: e, cancel: cancel}
	// Fragments keep one answer below the limit of a gRPC message; with the leader required a watch on a member that is cut
	// off ends instead of falling silent.
	w.answers = e.client.Watch(clientv3.WithRequireLeader(life), prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment())
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
		return
	}
	for _, e := range answer.Events {
		event := Event{Type: EventPut, KV: *keyValue(e.Kv)}
		if e.Type == mvccpb.Event_DELETE {
			event = Event{Type: EventDelete, KV: KeyValue{Key: string(e.Kv.Key), Mod: e.Kv.ModRevision}}
		}
		if n := len(w.ready); n == 0 || w.ready[n-1].Revision != event.KV.Mod {
			w.ready = append(w.ready, Change{Revision: event.KV.Mod})
		}
		last := &w.ready[len(w.ready)-1]
		last.Events = append(last.Events, event)
	}
	if answer.IsProgressNotify() {
		w.ready = append(w.ready, Change{Revision: answer.Header.Revision})
	}
	err := answer.Err()
	switch {
	case answer.CompactRevision > 0:
		w.over = fmt.Errorf("watch: %w: history begins at revision %d", ErrCompacted, answer.CompactRevision)
	case err != nil && errors.Is(err, context.Canceled):
		w.over = fmt.Errorf("watch: %w", ErrWatchClosed)
	case err != nil:
		w.over = w.etcd.classify("watch", err)
	}
}

func (w *etcdWatcher) Close() { w.cancel() }

func (w *etcdWatcher) RequestProgress(ctx context.Context) error {
	return w.etcd.classify("ask how far the watch is", w.etcd.client.RequestProgress(clientv3.WithRequireLeader(ctx)))
}
