package ingest

// Acks is what a producer waits for.
type Acks uint8

// What a producer can wait for. The zero value is the safest.
const (
	// AcksAll waits until the high watermark has passed the batch.
	AcksAll Acks = iota
	// AcksLeader waits until the leader has written the batch to its log.
	AcksLeader
	// AcksNone waits for nothing and learns nothing.
	AcksNone
)

// String is the setting's value as users write it.
func (a Acks) String() string {
	switch a {
	case AcksAll:
		return "all"
	case AcksLeader:
		return "1"
	case AcksNone:
		return "0"
	}
	return "unknown"
}

// Reached is how far a batch had come when it was answered. Values are ordered: a higher one includes the lower.
type Reached uint8

// How far a batch can come.
const (
	// ReachedNone: nothing is known.
	ReachedNone Reached = iota
	// ReachedBuffered: written to the leader's log, not synced; survives a crash of the process, not of the machine.
	ReachedBuffered
	// ReachedDisk: synced on the leader's disk.
	ReachedDisk
	// ReachedObject: in the object store and committed.
	ReachedObject
)

// String is the word that the command line prints.
func (r Reached) String() string {
	switch r {
	case ReachedNone:
		return "none"
	case ReachedBuffered:
		return "buffered"
	case ReachedDisk:
		return "disk"
	case ReachedObject:
		return "object"
	}
	return "unknown"
}
