package crashdisk

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// Keep says what of the pending changes survives a crash.
type Keep int

// KeepNone loses all that was not synced, KeepAll loses nothing but what a failed sync lost, and KeepHalf decides by seed.
const (
	KeepNone Keep = iota
	KeepHalf
	KeepAll
)

func (k Keep) String() string { return [...]string{"none", "half", "all"}[k] }

// blockSize is the unit in which a crash keeps or loses what was written to a file.
const blockSize = 4096

// Crash ends the file system, with every handle and lock, and returns what survives on a new one, without its faults, its
// count of calls at 0. It may be called repeatedly: every call looks at the same wreck.
func (f *FS) Crash(keep Keep, seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	out := f.copy()
	random := rand.New(rand.NewPCG(seed, 0))
	taken, _ := out.journal.split(out.journal.survivors(keep, random))
	out.journal = nil
	for _, c := range taken {
		c.apply(durableNames)
	}
	out.root.settle(keep, random)
	return out
}

// Copy returns the file system as it is, with what is pending, as a process finds it that starts after another has ended:
// without handles, locks and faults. The two go separate ways.
func (f *FS) Copy() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copy()
}

func (f *FS) copy() *FS {
	copied := cloner{}
	out := New()
	out.root, out.capacity, out.now = copied.inode(f.root), f.capacity, f.now
	out.journal = copied.journal(f.journal)
	return out
}

// survivors chooses some first part of every directory's changes.
func (j journal) survivors(keep Keep, random *rand.Rand) func(int, nameChange) bool {
	switch keep {
	case KeepNone:
		return func(int, nameChange) bool { return false }
	case KeepAll:
		return func(int, nameChange) bool { return true }
	case KeepHalf:
	}
	of := map[*inode][]int{} // the numbers of a directory's changes
	var dirs []*inode        // in a fixed order
	for n, c := range j {
		for _, s := range c {
			if of[s.dir] == nil {
				dirs = append(dirs, s.dir)
			}
			of[s.dir] = append(of[s.dir], n)
		}
	}
	last := map[int]bool{}
	for _, d := range dirs {
		if kept := random.IntN(len(of[d]) + 1); kept > 0 {
			last[of[d][kept-1]] = true
		}
	}
	return func(n int, _ nameChange) bool { return last[n] }
}

// settle makes what survives of a tree what is seen of it, and durable.
func (n *inode) settle(keep Keep, random *rand.Rand) {
	if !n.dir {
		n.settleContent(keep, random)
		return
	}
	n.names = maps.Clone(n.durableNames)
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		n.names[name].settle(keep, random)
	}
}

func (c *content) settleContent(keep Keep, random *rand.Rand) {
	switch keep {
	case KeepNone:
	case KeepAll:
		c.sync()
	case KeepHalf:
		c.durable = c.halfSurvives(random)
	}
	c.pending = nil
	c.seen = slices.Clone(c.durable)
}

// halfSurvives gives a file one of the lengths that it had since its last sync, and every block one of the contents that it
// had since, each chosen by itself: a disk writes back in any order.
func (c *content) halfSurvives(random *rand.Rand) []byte {
	versions := make(map[int64]int) // of each block that was changed, beside the durable one
	lengths := []int64{int64(len(c.durable))}
	length := lengths[0]
	for _, p := range c.pending {
		before := length
		length = p.length(length)
		if length != before {
			lengths = append(lengths, length)
		}
		for b := range p.blocks(before) {
			versions[b]++
		}
	}
	out := slices.Clone(c.durable)
	for _, b := range slices.Sorted(maps.Keys(versions)) {
		kept := random.IntN(versions[b] + 1)
		for _, p := range c.pending {
			if kept == 0 {
				break
			}
			if p.applyToBlock(&out, b) {
				kept--
			}
		}
	}
	return resized(out, lengths[random.IntN(len(lengths))])
}

// length is a file's length after a change of one that was before bytes long.
func (c change) length(before int64) int64 {
	if len(c.data) == 0 {
		return c.off
	}
	return max(before, c.off+int64(len(c.data)))
}

// extent is the bytes that a change sets: those it writes, or those that a shorter length makes zeros when the file grows again.
func (c change) extent() (from, to int64) {
	if len(c.data) == 0 {
		return c.off, math.MaxInt64
	}
	return c.off, c.off + int64(len(c.data))
}

// blocks yields the blocks that a change of a file of length bytes touches.
func (c change) blocks(length int64) func(func(int64) bool) {
	from, to := c.extent()
	if len(c.data) == 0 {
		to = length
	}
	return func(yield func(int64) bool) {
		for b := from / blockSize; b*blockSize < to; b++ {
			if !yield(b) {
				return
			}
		}
	}
}

// applyToBlock makes the part of a change that lies in one block.
func (c change) applyToBlock(p *[]byte, b int64) bool {
	from, to := c.extent()
	from, to = max(from, b*blockSize), min(to, (b+1)*blockSize)
	if from >= to {
		return false
	}
	if to > int64(len(*p)) {
		*p = resized(*p, to)
	}
	if len(c.data) == 0 {
		clear((*p)[from:to])
	} else {
		copy((*p)[from:to], c.data[from-c.off:])
	}
	return true
}

// cloner copies inodes. Two names of one inode become two names of its copy.
type cloner map[*inode]*inode

func (c cloner) inode(n *inode) *inode {
	if n == nil {
		return nil
	}
	if out, ok := c[n]; ok {
		return out
	}
	out := &inode{dir: n.dir, modified: n.modified}
	c[n] = out
	if n.dir {
		out.entries = entries{names: c.names(n.names), durableNames: c.names(n.durableNames)}
	} else {
		out.content = content{seen: slices.Clone(n.seen), durable: slices.Clone(n.durable), pending: slices.Clone(n.pending)}
	}
	return out
}

func (c cloner) names(of map[string]*inode) map[string]*inode {
	out := make(map[string]*inode, len(of))
	for name, n := range of {
		out[name] = c.inode(n)
	}
	return out
}

func (c cloner) journal(j journal) journal {
	out := make(journal, len(j))
	for n, change := range j {
		for _, s := range change {
			out[n] = append(out[n], nameSet{dir: c.inode(s.dir), name: s.name, to: c.inode(s.to)})
		}
	}
	return out
}
