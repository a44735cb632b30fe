package tier

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Store is the seam through which Tidemark touches an object store. A name stands for one content for ever: whoever would
// store other bytes chooses another name. That is why no method needs a condition, and why any call may be repeated.
//
// Every method may be called from any goroutine, and each returns soon after its context ends. Errors carry at most one of
// the sentinels of this package (test with errors.Is), what was tried where, and the next step for an operator. An error
// caused by the end of the caller's context carries that context's error and no sentinel.
type Store interface {
	// Put stores the concatenation of body under name. On nil the object is durable and whoever asks for it gets it.
	// After an error it may exist, whole, or not, or appear later; there is never a part of it. Repeating a Put with the
	// same bytes is harmless, also beside itself. The slices are only read, and not after Put returned.
	Put(ctx context.Context, name string, body [][]byte) error
	// ReadAt fills p with the object's bytes from off. It fails with io.ErrUnexpectedEOF if the object ends before
	// off+len(p), and with ErrNotFound if there is none. On an error p holds nothing of use.
	ReadAt(ctx context.Context, name string, p []byte, off int64) error
	// Stat describes one object, or fails with ErrNotFound.
	Stat(ctx context.Context, name string) (Object, error)
	// List calls fn for every object whose name begins with prefix, ordered by name (bytewise), and returns the first
	// error of fn as it is. What it shows may lag behind Put and Delete; nothing that matters may rest on it.
	List(ctx context.Context, prefix string, fn func(Object) error) error
	// Delete removes an object; an absent one is no error. After a crash of the machine it may be back.
	Delete(ctx context.Context, name string) error
}

// Object describes a stored object.
type Object struct {
	Name     string
	Size     int64     // bytes
	Modified time.Time // by the store's clock; decides nothing
}

// MaxNameBytes is the longest name a store takes, prefix of the bucket not included.
const MaxNameBytes = 512

// CheckName says whether name can name an object in every kind of store: 1 to MaxNameBytes bytes of ASCII letters, digits
// and "-_.=+@,:~", in parts separated by single slashes, no part beginning with a dot. A name must not also be another
// name's folder ("a" beside "a/b"), which a directory cannot hold.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("check object name: it is empty")
	}
	if len(name) > MaxNameBytes {
		return fmt.Errorf("check object name %.32q...: it has %d bytes; the limit is %d", name, len(name), MaxNameBytes)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' {
			return fmt.Errorf("check object name %q: part %q is empty or begins with a dot", name, part)
		}
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return !nameRune(r) }); i >= 0 {
		return fmt.Errorf("check object name %q: byte %d is none of letters, digits and -_.=+@,:~/", name, i)
	}
	return nil
}

func nameRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return strings.ContainsRune("-_.=+@,:~/", r)
}

// checkRange refuses what no object can hold.
func checkRange(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) < off {
		return fmt.Errorf("read %d bytes at %d: no such range", len(p), off)
	}
	return nil
}

func bodySize(body [][]byte) int64 {
	var n int64
	for _, b := range body {
		n += int64(len(b))
	}
	return n
}
