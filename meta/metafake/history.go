package metafake

import (
	"maps"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
)

// version is one key from one revision on.
type version struct {
	kv      meta.KeyValue
	deleted bool
}

// history is every key at every revision that was not compacted. Revisions begin at 1, where nothing is, as in etcd.
type history struct {
	revision  meta.Revision
	compacted meta.Revision
	keys      []string             // in ascending order, of all that have versions
	versions  map[string][]version // in ascending order of Mod
	changes   []meta.Change        // in ascending order, above compacted
}

func newHistory() history {
	return history{revision: 1, versions: make(map[string][]version)}
}

// at returns the key as it was at a revision, nil if it was absent.
func (h *history) at(key string, revision meta.Revision) *meta.KeyValue {
	for _, v := range slices.Backward(h.versions[key]) {
		if v.kv.Mod > revision {
			continue
		}
		if v.deleted {
			return nil
		}
		kv := v.kv
		kv.Value = slices.Clone(kv.Value)
		return &kv
	}
	return nil
}

// list returns what was under a prefix at a revision.
func (h *history) list(prefix string, revision meta.Revision) []meta.KeyValue {
	var out []meta.KeyValue
	from, _ := slices.BinarySearch(h.keys, prefix)
	for _, key := range h.keys[from:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if kv := h.at(key, revision); kv != nil {
			out = append(out, *kv)
		}
	}
	return out
}

// put gives the key a version at revision, which is the current one or the next.
func (h *history) put(key string, value []byte, lease meta.LeaseID, revision meta.Revision) meta.Event {
	kv := meta.KeyValue{Key: key, Value: slices.Clone(value), Create: revision, Mod: revision, Lease: lease}
	if kv.Value == nil {
		kv.Value = []byte{}
	}
	if old := h.at(key, revision); old != nil {
		kv.Create = old.Create
	}
	h.add(key, version{kv: kv})
	return meta.Event{Type: meta.EventPut, KV: kv}
}

// remove deletes a key that is there.
func (h *history) remove(key string, revision meta.Revision) meta.Event {
	kv := meta.KeyValue{Key: key, Mod: revision}
	h.add(key, version{kv: kv, deleted: true})
	return meta.Event{Type: meta.EventDelete, KV: kv}
}

func (h *history) add(key string, v version) {
	if _, known := h.versions[key]; !known {
		at, _ := slices.BinarySearch(h.keys, key)
		h.keys = slices.Insert(h.keys, at, key)
	}
	h.versions[key] = append(h.versions[key], v)
}

// commit makes the changes of one revision the current state.
func (h *history) commit(events []meta.Event) {
	if len(events) == 0 {
		return
	}
	h.revision++
	h.changes = append(h.changes, meta.Change{Revision: h.revision, Events: events})
}

// compact forgets what was overwritten or deleted at or below a revision.
func (h *history) compact(revision meta.Revision) {
	h.compacted = revision
	h.changes = slices.DeleteFunc(h.changes, func(c meta.Change) bool { return c.Revision <= revision })
	h.keys = slices.DeleteFunc(h.keys, func(key string) bool {
		versions := h.versions[key]
		last := -1 // the version that holds at the revision
		for n, v := range versions {
			if v.kv.Mod <= revision {
				last = n
			}
		}
		if last >= 0 && versions[last].deleted {
			last++
		}
		versions = slices.Clone(versions[max(last, 0):])
		if len(versions) == 0 {
			delete(h.versions, key)
			return true
		}
		h.versions[key] = versions
		return false
	})
}

// under returns the part of a change below a prefix.
func under(prefix string, c meta.Change) (meta.Change, bool) {
	out := meta.Change{Revision: c.Revision}
	for _, e := range c.Events {
		if strings.HasPrefix(e.KV.Key, prefix) {
			e.KV.Value = slices.Clone(e.KV.Value)
			out.Events = append(out.Events, e)
		}
	}
	return out, len(out.Events) > 0
}

func (h *history) clone() history {
	out := history{
		revision: h.revision, compacted: h.compacted, keys: slices.Clone(h.keys), changes: slices.Clone(h.changes),
		versions: make(map[string][]version, len(h.versions)),
	}
	for key, versions := range h.versions {
		out.versions[key] = slices.Clone(versions)
	}
	return out
}

func cloneLeases(from map[meta.LeaseID]*lease) map[meta.LeaseID]*lease {
	out := make(map[meta.LeaseID]*lease, len(from))
	for id, l := range from {
		out[id] = &lease{ttl: l.ttl, ends: l.ends, keys: maps.Clone(l.keys)}
	}
	return out
}
