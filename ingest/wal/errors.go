package wal

import (
	"errors"
	"fmt"
)

var (
	// ErrFailed says that a write or sync failed before. Nothing may be assumed about what was not synced; the log only closes.
	ErrFailed = errors.New("the log has failed and only closes")
	// ErrClosed says that the log is closed.
	ErrClosed = errors.New("the log is closed")
	// ErrRolledBack says that the log ends below what others know to have been durable: an older copy of the disk, or an empty one.
	ErrRolledBack = errors.New("the log on disk is older than what it acknowledged")
	// ErrVersion says that the log was written by another release in a format that this one does not read.
	ErrVersion = errors.New("unknown version of the log")
	// ErrTooLarge says that a batch is larger than Config.MaxFrameBytes. The call appended nothing; the log goes on.
	ErrTooLarge = errors.New("batch is too large for the log")
	// ErrTrimmed says that the position lies in a file that was trimmed.
	ErrTrimmed = errors.New("position was trimmed")
)

// CorruptionError says where something that was durable cannot be read back. It is reported, never skipped.
type CorruptionError struct {
	File   string
	Offset int64 // in the file, bytes
	LSN    LSN
	Reason string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("log file %s is damaged at byte %d (LSN %d): %s; restore the disk or remove the data directory if its unflushed records may be lost",
		e.File, e.Offset, uint64(e.LSN), e.Reason)
}
