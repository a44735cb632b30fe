package ingest

import (
	"sync"

	"github.com/tidemark-io/tidemark/meta"
)

// maxAbsentNames caps what absentGroups remembers.
const maxAbsentNames = 1000

// absentGroups remembers names that etcd has no group of, for as long as the index stands at one revision, so that clients that go on about groups
// which are not there cost no read of etcd each. What it says may be as old as the index, so only calls of members believe it.
type absentGroups struct {
	mu    sync.Mutex
	at    absentAt
	names map[string]struct{}
}

// absentAt is an index, of one life of the node, at one revision.
type absentAt struct{ life, revision meta.Revision }

func absentIn(seat GroupSeat) absentAt {
	return absentAt{seat.Registration.NodeRev, seat.Index.Revision()}
}

// has tells whether a group was not there at or after at.
func (a *absentGroups) has(name string, at absentAt) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, absent := a.names[name]
	return absent && a.at == at
}

// add notes that a group was not there, by a read that was made after the index was at at.
func (a *absentGroups) add(name string, at absentAt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at != at || len(a.names) >= maxAbsentNames {
		a.at, a.names = at, make(map[string]struct{})
	}
	a.names[name] = struct{}{}
}
