package history

import (
	"cmp"
	"math"
	"slices"
)

// offsetKey is where one committed offset is kept.
type offsetKey struct {
	group     Group
	partition Partition
}

// committed is everything about one committed offset.
type committed struct {
	key     offsetKey
	commits []int32 // OK and unknown attempts
	fetches []*fetched
}

// checkCommits checks commits and what was read of them. Here each read is judged alone, and exactly by the commits around it;
// the register in registers.go judges all of them together.
func (c *checker) checkCommits() {
	if c.commits.len()+c.fetches.len()+len(c.assigned) == 0 {
		return
	}
	c.fenceGenerations()
	for _, all := range c.byOffset() {
		c.checkBack(all)
		c.checkFetches(all)
	}
}

// byOffset gathers commits and fetches by what they are about; all three levels are in the order of recording.
func (c *checker) byOffset() []*committed {
	var offsets []*committed
	index := map[offsetKey]*committed{}
	at := func(g Group, p Partition) *committed {
		key := offsetKey{group: g, partition: p}
		if index[key] == nil {
			index[key] = &committed{key: key}
			offsets = append(offsets, index[key])
		}
		return index[key]
	}
	for i := range c.commits.len() {
		if t := c.commits.at(i); t.Outcome != Fail {
			all := at(t.Group, t.Partition)
			all.commits = append(all.commits, int32(i))
		}
	}
	for i := range c.fetches.len() {
		f := c.fetches.at(i)
		all := at(f.Group, f.Partition)
		all.fetches = append(all.fetches, f)
	}
	for i := range c.assigned {
		f := &c.assigned[i]
		all := at(f.Group, f.Partition)
		all.fetches = append(all.fetches, f)
	}
	return offsets
}

// fenceGenerations looks for commits that were accepted though a later generation had already committed.
func (c *checker) fenceGenerations() {
	all := make([]int32, c.commits.len())
	for i := range all {
		all[i] = int32(i)
	}
	order := c.acceptedCommits(all)
	c.report.Seen.Commits, c.report.Seen.Fetches = len(order), c.fetches.len()
	reached := map[Group]*timeline{}
	for _, i := range order {
		t := c.commits.at(int(i))
		if t.Generation < 0 {
			continue
		}
		r := reached[t.Group]
		if r == nil {
			r = &timeline{}
			reached[t.Group] = r
		}
		if earlier, ok := r.before(t.Invoke); ok && earlier.reach > int64(t.Generation) {
			c.foundf(StaleGenerationCommit, "%s; but before it: %s", c.commitText(t), c.commitText(c.commits.at(int(earlier.who))))
		}
		r.add(t.Complete, int64(t.Generation), i)
	}
}

// acceptedCommits returns those of some commits that were OK, in the order of completion.
func (c *checker) acceptedCommits(of []int32) []int32 {
	var order []int32
	for _, i := range of {
		if c.commits.at(int(i)).Outcome == OK {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(c.commits.at(int(a)).Complete, c.commits.at(int(b)).Complete) })
	return order
}

// checkBack looks for offsets that went back within a generation without being reset.
func (c *checker) checkBack(all *committed) {
	reached := map[int32]*timeline{}
	for _, i := range c.acceptedCommits(all.commits) {
		t := c.commits.at(int(i))
		if t.Reset {
			clear(reached)
			continue
		}
		r := reached[t.Generation]
		if r == nil {
			r = &timeline{}
			reached[t.Generation] = r
		}
		if earlier, ok := r.before(t.Invoke); ok && earlier.reach > t.Offset {
			c.foundf(CommitBack, "%s; but before it: %s", c.commitText(t), c.commitText(c.commits.at(int(earlier.who))))
		}
		r.add(t.Complete, t.Offset, i)
	}
}

// checkFetches asks of each offset that was read which commit explains it: one that was attempted before the read ended
// and not overwritten, before the read began, by a commit that began after it.
func (c *checker) checkFetches(all *committed) {
	if len(all.fetches) == 0 {
		return
	}
	attempts := map[int64][]int32{}
	for _, i := range all.commits {
		t := c.commits.at(int(i))
		attempts[t.Offset] = append(attempts[t.Offset], i)
	}
	var latest timeline // of the commits complete by then, when did the last to begin begin?
	for _, i := range c.acceptedCommits(all.commits) {
		t := c.commits.at(int(i))
		latest.add(t.Complete, t.Invoke, i)
	}
	for _, f := range all.fetches {
		last, overwritten := latest.before(f.Invoke)
		limit := int64(math.MinInt64)
		if overwritten {
			limit = last.reach
		}
		attempted, explained := false, f.Offset < 0 && !overwritten
		for _, i := range attempts[f.Offset] {
			t := c.commits.at(int(i))
			attempted = attempted || t.Invoke <= f.Complete
			explained = explained || t.Invoke <= f.Complete && t.Complete >= limit
		}
		if explained || f.assign && (!overwritten || c.moved(all.key.partition, f.Offset)) {
			continue
		}
		kind, before := UncommittedOffset, "no commit of it was accepted or unknown"
		if overwritten {
			before = "before it: " + c.commitText(c.commits.at(int(last.who))).String()
			if attempted || f.Offset < c.commits.at(int(last.who)).Offset {
				kind = LostCommit
			}
		}
		c.foundf(kind, "%s; %s", c.fetchText(f), before)
	}
}

// moved tells whether a consumer may stand at an offset without a commit: the start of the log, or the end of a loss.
func (c *checker) moved(p Partition, offset int64) bool {
	l := &c.logs[p]
	if l.start > 0 && offset == l.start {
		return true
	}
	for _, i := range l.losses {
		if offset == i.to {
			return true
		}
	}
	return false
}
