// Package disk is the seam through which Tidemark touches a local file system.
//
// The write-ahead log and the local object store are written against FS; OS is the real one, and package crashdisk is a
// fake that forgets what was not synced and fails any call on demand. Package disktest is the contract that both obey.
package disk

import (
	"errors"
	"io"
	"time"
)

// Errors that callers act on. Implementations wrap them; test with errors.Is. A missing file is fs.ErrNotExist, an
// existing one fs.ErrExist.
var (
	// ErrNoSpace says that the device or quota is full. Nothing of the failed call may be relied on, and nothing else is lost.
	ErrNoSpace = errors.New("no space left on device")
	// ErrLocked says that another process holds the lock.
	ErrLocked = errors.New("locked by another process")
)

// FS is a local file system. Names are slash-separated paths as the operating system takes them. Every method may be
// called from any goroutine. What a method did survives a crash of the process at once, and a crash of the machine only
// after the sync that each comment names.
type FS interface {
	// MkdirAll makes dir and its missing parents, one after the other, each durable before the next. On return dir survives
	// a crash, also when it was there already because an earlier call failed or its process ended half-way.
	MkdirAll(dir string) error
	// Create makes a new empty file for writing and reading. It fails with fs.ErrExist if the name is taken. The name
	// survives a crash after SyncDir of its directory.
	Create(name string) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// Remove removes a file. Durable after SyncDir of its directory; until then a crash may bring the file back.
	Remove(name string) error
	// Rename moves a file over newName, atomically, within one file system. Durable after SyncDir of newName's directory.
	Rename(oldName, newName string) error
	// ReadDir lists a directory, ordered by name.
	ReadDir(dir string) ([]Entry, error)
	// Stat describes one file or directory.
	Stat(name string) (Entry, error)
	// SyncDir makes creations, removals and renames in dir durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on a file, which it creates if need be, and holds it until Close or the end of the
	// process. It fails at once with ErrLocked if another process (or another Lock of this one) holds it.
	Lock(name string) (io.Closer, error)
	// Free returns the bytes that an unprivileged writer can still add in dir.
	Free(dir string) (int64, error)
}

// File is an open file. Reads and writes at different offsets may run concurrently; Close may not run beside anything.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Size returns the length in bytes.
	Size() (int64, error)
	// Allocate makes the file at least size bytes long, with its blocks reserved: later writes below size do not fail with
	// ErrNoSpace, where the file system can promise that, and a Sync after them need not change the file's length. What the
	// file holds stays, what is new reads as zeros. It fails with ErrNoSpace and leaves the file's length open.
	Allocate(size int64) error
	// WriteOut has what was written to a range on its way to the device and returns when it is there, where the system can tell,
	// so that a later Sync has little left to do and the syncs of other files need not wait for all of it at once. It makes
	// nothing durable. After an error the same holds as after one of Sync.
	WriteOut(off, length int64) error
	// Truncate sets the length. Durable after Sync.
	Truncate(size int64) error
	// Sync makes data and length durable. After an error nothing may be assumed about what was written since the last
	// success, and a second Sync proves nothing: the caller must not retry it.
	Sync() error
	io.Closer
}

// Entry describes a file or directory.
type Entry struct {
	Name    string // base name
	Size    int64  // bytes; 0 for directories
	Dir     bool
	ModTime time.Time
}
