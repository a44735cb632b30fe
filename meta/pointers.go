package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Errors of SwapPointer.
var (
	// ErrPointerMoved: the pointer is not at the revision that the new value was made from.
	ErrPointerMoved = errors.New("pointer moved")
	// ErrGuardChanged: the pointer is, but another compare of the swap failed: the topic or the node is not what it was.
	ErrGuardChanged = errors.New("guard changed")
)

// Pointer is a small value that names something greater elsewhere, such as a partition's manifest or a topic's columns, and
// is changed by compare-and-swap.
type Pointer struct {
	Value    []byte   // shared and read only; nil when there is none
	Revision Revision // mod revision of the key, 0 when there is none
}

// Swap replaces one value of a pointer by another.
type Swap struct {
	Key string
	// From is the revision of the value that Value was made from; 0 when there was none.
	From Revision
	// Value never was this pointer's value before: it holds a version or a random name. That is how an earlier copy of the
	// swap, whose answer was lost, is recognised.
	Value []byte
	// Guards must hold besides, such as that of the topic's create revision and of the registration of the node.
	Guards []Compare
}

// GetPointer reads a pointer; one that was never written has revision 0.
func (c *Client) GetPointer(ctx context.Context, key string) (Pointer, error) {
	kv, _, err := c.kv.Get(ctx, key)
	if err != nil {
		return Pointer{}, err
	}
	return pointer(kv), nil
}

func pointer(kv *KeyValue) Pointer {
	if kv == nil {
		return Pointer{}
	}
	return Pointer{Value: kv.Value, Revision: kv.Mod}
}

// SwapPointer makes one swap and returns the pointer as it is then. In doubt it sends the same transaction again until etcd
// decides, so an error of ctx says that the swap may apply yet: what Value names must stay until the pointer has moved past
// From. With ErrPointerMoved and ErrGuardChanged the returned pointer is the present one. After ErrPointerMoved the swap may have
// been made if an answer was lost and others have swapped since: From is history either way. No copy of it applies later.
func (c *Client) SwapPointer(ctx context.Context, s Swap) (Pointer, error) {
	txn := Txn{
		If:   append([]Compare{IfMod(s.Key, s.From)}, s.Guards...),
		Then: []Op{PutOp(s.Key, s.Value)},
		Else: []Op{GetOp(s.Key)},
	}
	var out Pointer
	err := c.retry(ctx, "swap "+s.Key, func() (bool, error) {
		result, err := c.kv.Txn(ctx, txn)
		if err != nil {
			return false, err
		}
		if result.Succeeded {
			out = Pointer{Value: s.Value, Revision: result.Revision}
			return true, nil
		}
		out = pointer(result.Gets[0])
		switch {
		case out.Revision == s.From:
			return true, fmt.Errorf("%w: %s is still at revision %d", ErrGuardChanged, s.Key, s.From)
		case out.Revision > s.From && bytes.Equal(out.Value, s.Value): // an earlier copy of ours
			return true, nil
		}
		return true, fmt.Errorf("%w: %s is at revision %d, not %d", ErrPointerMoved, s.Key, out.Revision, s.From)
	})
	return out, err
}
