package crashdisk

import (
	"errors"
	"io/fs"
	"path"
)

var (
	// ErrInjected is what a Fault without an Err of its own reports.
	ErrInjected = errors.New("injected fault")
	// ErrStopped is what every call reports once the power is gone.
	ErrStopped = errors.New("the power is gone")
)

// Op names a method of disk.FS or disk.File.
type Op string

// The operations that are counted and can fail.
const (
	MkdirAll Op = "mkdirall"
	Create   Op = "create"
	Open     Op = "open"
	Remove   Op = "remove"
	Rename   Op = "rename"
	ReadDir  Op = "readdir"
	Stat     Op = "stat"
	SyncDir  Op = "syncdir"
	Lock     Op = "lock"
	Free     Op = "free"
	Read     Op = "read"
	Write    Op = "write"
	Size     Op = "size"
	Allocate Op = "allocate"
	WriteOut Op = "writeout"
	Truncate Op = "truncate"
	Sync     Op = "sync"
	Close    Op = "close"
)

// Fault is one call that goes wrong, once: the first that matches Call, Op and Name.
type Fault struct {
	Call int    // its number, as Calls counts; 0: any
	Op   Op     // "": any
	Name string // a pattern of path.Match for the last part of the name (the old one of a rename); "": any

	// Err is what the call reports, ErrInjected when nil; with Stop nobody is left to hear it. A call that fails has no effect,
	// but that of a Sync or a WriteOut is to lose what was pending.
	Err error
	// Torn makes the first half of a write take effect, and leaves the first directory of a MkdirAll made but not durable.
	Torn bool
	// Done makes the call take effect before it reports the error.
	Done bool
	// Stop lets the power go: right after the call when that is Done or Torn, else right before.
	Stop bool
}

// FailOn adds a fault.
func (f *FS) FailOn(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fault)
}

// ClearFaults forgets the faults that have not struck.
func (f *FS) ClearFaults() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Calls is the number of calls so far of methods of disk.FS and disk.File, also of those that failed.
func (f *FS) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Failed says what the fault that struck last has struck, "" before the first.
func (f *FS) Failed() Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// call runs an operation under the lock, unless a fault has it otherwise. torn is what a fault with Torn runs instead, and
// lost what one runs that has no effect; either may be nil.
func (f *FS) call(op Op, name string, run, torn func() error, lost func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return &fs.PathError{Op: string(op), Path: name, Err: ErrStopped}
	}
	f.calls++
	f.now = f.now.Add(tick)
	fault := f.strike(op, name)
	if fault == nil {
		return wrap(op, name, run())
	}
	switch {
	case fault.Done:
		if err := run(); err != nil {
			return wrap(op, name, err)
		}
	case fault.Torn && torn != nil:
		if err := torn(); err != nil {
			return wrap(op, name, err)
		}
	case lost != nil && !fault.Stop:
		lost()
	}
	if fault.Stop {
		f.stopped = true
		return wrap(op, name, ErrStopped)
	}
	if fault.Err != nil {
		return wrap(op, name, fault.Err)
	}
	return wrap(op, name, ErrInjected)
}

func wrap(op Op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: string(op), Path: name, Err: err}
}

// strike returns the fault that a call runs into, and spends it.
func (f *FS) strike(op Op, name string) *Fault {
	for n := range f.faults {
		fault := f.faults[n]
		matches, err := path.Match(fault.Name, path.Base(name))
		if err != nil {
			panic("crashdisk: bad pattern in Fault.Name: " + fault.Name)
		}
		if (fault.Call == 0 || fault.Call == f.calls) && (fault.Op == "" || fault.Op == op) && (fault.Name == "" || matches) {
			f.faults = append(f.faults[:n:n], f.faults[n+1:]...)
			f.failed = op
			return &fault
		}
	}
	return nil
}
