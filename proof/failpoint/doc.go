// Package failpoint marks the durable steps of a node, each a place to die at. A normal build has none of it: Here is an empty
// function there. With the build tag failpoints, TIDEMARK_FAILPOINT=name:n in the environment kills the process, as kill -9 does,
// when it comes to the point of that name for the n-th time. TIDEMARK_FAILPOINT=name:n:30ms has who came to the point wait there first, while
// all others go on: what they should have waited for the step with, and did not, then shows. With TIDEMARK_FAILPOINT_ARMED=path it
// counts only from the moment when that file is there, so that a test can let the process come to where it wants it. The last that a process
// prints, to standard error, is Line.
//
// cmd/tidemark/killtest kills a node at every one of Points, and looks at what is left.
package failpoint

import "strconv"

// Line is what a process prints when it dies at a point that it has come to for the n-th time.
func Line(name string, n int64) string {
	return "failpoint: dead at " + name + ":" + strconv.FormatInt(n, 10)
}

// Points are all there are, in the order in which a record meets them.
var Points = []string{
	LogBeforeWrite, LogAfterWrite, LogBeforeSync, LogAfterSync,
	StoreBeforePut, StoreAfterPut, CommitBeforeSend, CommitAfterAnswer, BeforeAck, LogBeforeTrim, LogAfterTrim,
	FoldBeforePut, FoldAfterCommit,
	StartAfterRegister, StartAfterRecovery,
	ReleaseBeforeSend, ReleaseAfterAnswer, AssignBeforeSend, AssignAfterAnswer,
	GroupBeforeCommit, GroupAfterCommit,
}

// The points. Before and after say on which side of the step.
const (
	LogBeforeWrite     = "log-before-write"
	LogAfterWrite      = "log-after-write"
	LogBeforeSync      = "log-before-sync"
	LogAfterSync       = "log-after-sync"
	StoreBeforePut     = "store-before-put"
	StoreAfterPut      = "store-after-put"
	CommitBeforeSend   = "commit-before-send"
	CommitAfterAnswer  = "commit-after-answer"
	BeforeAck          = "before-ack"
	LogBeforeTrim      = "log-before-trim"
	LogAfterTrim       = "log-after-trim"
	FoldBeforePut      = "fold-before-put"
	FoldAfterCommit    = "fold-after-commit"
	StartAfterRegister = "start-after-register"
	StartAfterRecovery = "start-after-recovery"
	ReleaseBeforeSend  = "release-before-send"
	ReleaseAfterAnswer = "release-after-answer"
	AssignBeforeSend   = "assign-before-send"
	AssignAfterAnswer  = "assign-after-answer"
	GroupBeforeCommit  = "group-before-commit"
	GroupAfterCommit   = "group-after-commit"
)
