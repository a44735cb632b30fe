package crashdisk

import (
	"slices"
	"time"
)

// inode is a file or a directory, whatever its names.
type inode struct {
	dir      bool
	modified time.Time
	content  // of a file
	entries  // of a directory
}

// content is what a file holds. seen is durable with the lost and the pending changes made to it, in their order.
type content struct {
	seen    []byte
	durable []byte
	pending []change
}

// entries are the names in a directory. names is durableNames with the changes of the journal made to it.
type entries struct {
	names        map[string]*inode
	durableNames map[string]*inode
}

// change is a write, or with no data a new length, which off is then. It is never modified.
type change struct {
	off  int64
	data []byte
}

// nameChange sets names in one directory, or for a rename in up to two, all or none.
type nameChange []nameSet

type nameSet struct {
	dir  *inode
	name string
	to   *inode // nil: removed
}

func newFile(now time.Time) *inode { return &inode{modified: now} }

func newDir(now time.Time) *inode {
	return &inode{dir: true, modified: now, entries: entries{names: map[string]*inode{}, durableNames: map[string]*inode{}}}
}

// resized returns p with n bytes, zeros where it grew. p must not be used afterwards.
func resized(p []byte, n int64) []byte {
	old := int64(len(p))
	if n <= old {
		return p[:n]
	}
	p = slices.Grow(p, int(n-old))[:n]
	clear(p[old:])
	return p
}

func (c change) apply(p []byte) []byte {
	if len(c.data) == 0 {
		return resized(p, c.off)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(p)) {
		p = resized(p, end)
	}
	copy(p[c.off:], c.data)
	return p
}

// change makes a change that is seen at once, and pending.
func (c *content) change(made change) {
	c.seen = made.apply(c.seen)
	c.pending = append(c.pending, made)
}

// sync makes durable what is pending.
func (c *content) sync() {
	for _, p := range c.pending {
		c.durable = p.apply(c.durable)
	}
	c.pending = nil
}

// apply sets the names, in what is seen or in what is durable.
func (c nameChange) apply(of func(*inode) map[string]*inode) {
	for _, s := range c {
		if s.to == nil {
			delete(of(s.dir), s.name)
		} else {
			of(s.dir)[s.name] = s.to
		}
	}
}

func seenNames(dir *inode) map[string]*inode    { return dir.names }
func durableNames(dir *inode) map[string]*inode { return dir.durableNames }

// journal is every change of names that is not durable yet, in order.
type journal []nameChange

// split takes out the changes that are wanted, and those they rest on: whatever came before in the same directories.
func (j journal) split(want func(n int, c nameChange) bool) (taken, left journal) {
	dirs := map[*inode]bool{}
	take := make([]bool, len(j))
	for n, c := range slices.Backward(j) {
		take[n] = want(n, c) || slices.ContainsFunc(c, func(s nameSet) bool { return dirs[s.dir] })
		if take[n] {
			for _, s := range c {
				dirs[s.dir] = true
			}
		}
	}
	for n, c := range j {
		if take[n] {
			taken = append(taken, c)
		} else {
			left = append(left, c)
		}
	}
	return taken, left
}
