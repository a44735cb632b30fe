package meta

import (
	"context"
	"errors"
	"fmt"
)

// producerBlockSize is how many producer ids one transaction takes.
const producerBlockSize = 1000

// producerBlock is what is left of the block that this process took: next <= id < end. Whoever holds the token may look.
type producerBlock struct {
	token     chan struct{}
	next, end int64
}

func newProducerBlock() producerBlock { return producerBlock{token: make(chan struct{}, 1)} }

// retryable tells whether reading again may help.
func retryable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCompacted) || errors.Is(err, context.DeadlineExceeded)
}

// NextProducerID gives out a producer id that nobody had. Ids come in blocks; a block whose transaction's outcome is unknown
// is left behind, so ids may be skipped but never repeat.
func (c *Client) NextProducerID(ctx context.Context) (int64, error) {
	b := &c.ids
	select {
	case b.token <- struct{}{}:
		defer func() { <-b.token }()
	case <-ctx.Done():
		return 0, fmt.Errorf("take a producer id: %w", ctx.Err())
	}
	if b.next == b.end {
		key := c.keys.ProducersNext()
		err := c.retry(ctx, "take a block of producer ids", func() (bool, error) {
			kv, _, err := c.kv.Get(ctx, key)
			if err != nil {
				return false, err
			}
			at := counterValue{Version: valueVersion, Next: 1}
			compare := IfAbsent(key)
			if kv != nil {
				if err := decodeJSON(key, kv.Value, &at); err != nil {
					return true, err
				}
				compare = IfMod(key, kv.Mod)
			}
			first := at.Next
			at.Next += producerBlockSize
			result, err := c.kv.Txn(ctx, Txn{If: []Compare{compare}, Then: []Op{PutOp(key, encodeJSON(at))}})
			if err != nil || !result.Succeeded {
				return false, err
			}
			b.next, b.end = first, at.Next
			return true, nil
		})
		if err != nil {
			return 0, err
		}
	}
	id := b.next
	b.next++
	return id, nil
}
