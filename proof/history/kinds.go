package history

// Kind names an anomaly.
type Kind string

// The anomalies; the table of the package's documentation tells what each means.
const (
	LostWrite             Kind = "lost-write"
	Duplicate             Kind = "duplicate"
	InconsistentOffsets   Kind = "inconsistent-offsets"
	ReusedOffset          Kind = "reused-offset"
	Gap                   Kind = "gap"
	Phantom               Kind = "phantom"
	AbortedRead           Kind = "aborted-read"
	PrecommittedRead      Kind = "precommitted-read"
	SourcesDisagree       Kind = "sources-disagree"
	Unseen                Kind = "unseen"
	PollSkip              Kind = "poll-skip"
	NonmonotonicPoll      Kind = "nonmonotonic-poll"
	IntPollSkip           Kind = "int-poll-skip"
	IntNonmonotonicPoll   Kind = "int-nonmonotonic-poll"
	StaleRead             Kind = "stale-read"
	NonmonotonicSend      Kind = "nonmonotonic-send"
	RealtimeSend          Kind = "realtime-send"
	IntNonmonotonicSend   Kind = "int-nonmonotonic-send"
	HighWatermarkBack     Kind = "high-watermark-back"
	StaleGenerationCommit Kind = "stale-generation-commit"
	CommitBack            Kind = "commit-back"
	LostCommit            Kind = "lost-commit"
	UncommittedOffset     Kind = "uncommitted-offset"
	WrongQuery            Kind = "wrong-query"
	StaleQuery            Kind = "stale-query"
	TwoLeaders            Kind = "two-leaders"
	EpochBack             Kind = "epoch-back"
	CommitRegister        Kind = "commit-register"
	LeaderRegister        Kind = "leader-register"
	Malformed             Kind = "malformed"

	// What follows is counted and allowed.

	IntSendSkip  Kind = "int-send-skip"
	RepeatedSend Kind = "repeated-send"
	DeclaredLoss Kind = "declared-loss"
)

// kinds is the order of reports; what is allowed stands last.
var kinds = []Kind{
	LostWrite, Duplicate, InconsistentOffsets, ReusedOffset, Gap, Phantom, AbortedRead, PrecommittedRead, SourcesDisagree, Unseen,
	PollSkip, NonmonotonicPoll, IntPollSkip, IntNonmonotonicPoll, StaleRead, NonmonotonicSend, RealtimeSend, IntNonmonotonicSend,
	HighWatermarkBack, StaleGenerationCommit, CommitBack, LostCommit, UncommittedOffset, WrongQuery, StaleQuery, TwoLeaders, EpochBack,
	CommitRegister, LeaderRegister, Malformed, IntSendSkip, RepeatedSend, DeclaredLoss,
}

// Allowed tells whether a kind is counted but is no fault.
func (k Kind) Allowed() bool { return k == IntSendSkip || k == RepeatedSend || k == DeclaredLoss }
