package ingest

import (
	"context"
	"errors"
)

// untilClosing is a context that also ends, with errClosing as its cause, when closing is closed because the process stops. cancel ends it with another
// cause; done ends it and what watches it.
func untilClosing(ctx context.Context, closing <-chan struct{}) (out context.Context, cancel context.CancelCauseFunc, done func()) {
	out, cancel = context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-closing:
			cancel(errClosing)
		case <-out.Done():
		}
	}()
	return out, cancel, func() {
		cancel(context.Canceled)
		<-ended
	}
}

// closingOr is errClosing when the process stops, else err.
func closingOr(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errClosing) {
		return errClosing
	}
	return err
}
