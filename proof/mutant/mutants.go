package mutant

// Mutant is one rule left out.
type Mutant uint8

// The mutants, by the rule that each leaves out. The first letter says where: A commits, B leadership and the disk, C the index and
// what is deleted, K those of another log on object storage.
const (
	None Mutant = iota
	// A1: the number of a commit starts at 1 with every incarnation, and its key does not name the incarnation.
	A1
	// A2: as A1, and a commit whose answer is missing is decided by whether the key of its record is there.
	A2
	// A3: a commit whose answer is missing is taken for failed, and its offsets are given again.
	A3
	// A3b: a commit in doubt is forgotten when etcd shows the guards as they were.
	A3b
	// A4: a commit in doubt is decided by its record, which a fold may have replaced.
	A4
	// A5: after a refusal what is still led is kept, whatever the epoch.
	A5
	// A6: a commit compares when nodes/<id> was made, not when it was last written.
	A6
	// A7: a start reads the log before it registers.
	A7
	// A8: the retry of a batch that is not committed yet is answered at once.
	A8
	// NoLiveness: a commit does not compare nodes/<id>.
	NoLiveness
	// NoAssignment: a commit does not compare assign/<id>.
	NoAssignment
	// B1: an assignment compares only who controls, no chain.
	B1
	// B2: an assignment compares the assignments that it touches, no chain.
	B2
	// B3: a partition is led from an index that may be older than its assignment.
	B3
	// B4: a disk partition is moved when its node's lease is gone.
	B4
	// B5: a release does not say of which epoch.
	B5
	// B6: a node leads what it has let go, when it did not hear that it had.
	B6
	// B7: a node with another disk leads the disk partitions of its name.
	B7
	// B8: after a node was forgotten its log goes on at the committed end.
	B8
	// B9: what recovery finds in the log on disk is served before it is durable.
	B9
	// C1: a reader takes what a fold has put at another revision than what it took away.
	C1
	// C2: a new leader reads the log at two revisions.
	C2
	// C3: what is known of producers goes with the records that a fold replaces.
	C3
	// C4: an object that no record names is deleted for its age.
	C4
	// C5: the output of a fold in doubt is deleted.
	C5
	// C6: a fold does not look whether the records that it replaces are still there.
	C6
	// K1: a leader that was replaced and came back goes on with the offsets that it remembers.
	K1
	// K2: an object's name does not say who wrote it, so that a leader of the past writes over its successor's.
	K2
	// K3: an upload that failed counts as made: its batches are dropped, and whoever waits for them is answered.
	K3
	// K4: a leader of the past says that an offset of its successor is out of range.
	K4

	// Count is one above the last.
	Count
)

var names = [Count]string{
	"none", "A1", "A2", "A3", "A3b", "A4", "A5", "A6", "A7", "A8", "no-liveness", "no-assignment", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9",
	"C1", "C2", "C3", "C4", "C5", "C6", "K1", "K2", "K3", "K4",
}

// String is the mutant's name.
func (b Mutant) String() string {
	if b < Count {
		return names[b]
	}
	return "unknown"
}
