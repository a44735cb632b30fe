// Package failpoint marks the durable steps of a node, each a place to die at. A normal build has none of it: Here is an empty
// function there. With the build tag failpoints, TIDEMARK_FAILPOINT=name:n in the environment kills the process, as kill -9 does,
// when it comes to the point of that name for the n-th time.
//
// cmd/tidemark/killtest kills a node at every one of Points, and looks at what is left.
package failpoint

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
