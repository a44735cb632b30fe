package tier

import (
	"errors"
	"fmt"
	"strings"
)

// What callers tell apart. Every store wraps them in *Error; test with errors.Is.
var (
	// ErrNotFound says that the store answered and has no such object.
	ErrNotFound = errors.New("object not found")
	// ErrDenied says that the store refuses this configuration: credentials, permission, region or this machine's clock.
	// It goes away when an operator acts, so a running node keeps trying and names it.
	ErrDenied = errors.New("access denied by the object store")
	// ErrNoBucket says that the store answered and has no such bucket. It is no ErrNotFound: nothing may be concluded
	// about any object.
	ErrNoBucket = errors.New("bucket does not exist")
	// ErrUnavailable says that the store could not be reached in time, or asked to come again later. Retry.
	ErrUnavailable = errors.New("object store unavailable")
	// ErrNoSpace says that disk or quota is full. Retry later; nothing else is lost.
	ErrNoSpace = errors.New("object store is full")
	// ErrFailed says that the store cannot vouch for durability any more, after a failed sync. It stays so until the
	// process starts anew.
	ErrFailed = errors.New("object store failed")
)

// Error is a failed call of a store, in one line that an operator can act on.
type Error struct {
	Op    string // "put", "read", "stat", "list", "delete", "open"
	Name  string // the object or prefix
	Store string // where: `bucket "b" at https://host` or `directory "/d"`
	Kind  error  // one of the sentinels, or nil
	Cause error
	Hint  string // the next step for an operator, or ""
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q in %s: ", e.Op, e.Name, e.Store)
	switch {
	case e.Kind != nil && e.Cause != nil && e.Kind != e.Cause: //nolint:errorlint // identity is meant: do not say it twice
		fmt.Fprintf(&b, "%v: %v", e.Kind, e.Cause)
	case e.Cause != nil:
		b.WriteString(e.Cause.Error())
	default:
		fmt.Fprint(&b, e.Kind)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns kind and cause.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, 2)
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// CorruptionError says that stored bytes are not what was written. It is never retried into silence and its bytes are
// never served.
type CorruptionError struct {
	Object string
	Offset int64 // in the object, where the damaged part begins
	Reason string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("object %q is corrupt at offset %d: %s", e.Object, e.Offset, e.Reason)
}

// ForeignError says that a bucket belongs to another cluster.
type ForeignError struct {
	Here   string // the id found in the bucket
	Wanted string // the id of the cluster that claims it
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the store belongs to cluster %s, this cluster is %s; give it a bucket or prefix of its own (--store)", e.Here, e.Wanted)
}
