package main

import (
	"context"
	"errors"
)

// classify turns any error of a command into one with an exit code and a next step.
func (a *app) classify(ctx context.Context, err error) *failure {
	if f := (*failure)(nil); errors.As(err, &f) {
		return &failure{code: f.code, next: f.next, err: err}
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &failure{code: exitInterrupted, err: errors.New("interrupted")}
	}
	return &failure{code: exitFailed, err: err}
}
