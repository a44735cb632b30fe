package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Delete forgets a group without members, with its offsets, and returns when they are gone. When a group has none is as for Seek. An error for
// which DeletionInDoubt is true leaves open whether it is gone: then UNKNOWN_GROUP, when Delete is called again, says that it is.
func (g *Groups) Delete(ctx context.Context, name string) error {
	a, refused := g.find(ctx, name, askAbsent)
	if refused != nil {
		return refused
	}
	answered := make(chan *Error, 1)
	a.post(groupCall{
		run: func(now time.Time) {
			if a.releasing != nil {
				answered <- a.releasing
				return
			}
			if err := a.machine.CheckEmpty(now); err != nil {
				answered <- groupError(name, err)
				return
			}
			a.remove(now, func(cause *Error) {
				if cause != nil {
					cause = cause.With(metadataDeletion, deletionInDoubt)
				}
				answered <- cause
			})
		},
		fail: func(cause *Error) { answered <- cause },
	})
	select {
	case refused := <-answered:
		if refused != nil {
			return refused
		}
		return nil
	case <-ctx.Done():
		return callerGone(ctx, fmt.Sprintf("delete group %q", name)).With(metadataDeletion, deletionInDoubt)
	}
}

// Metadata of an error of Delete.
const (
	metadataDeletion = "deletion"
	deletionInDoubt  = "in_doubt"
)

// DeletionInDoubt tells whether an error of Delete leaves open that the group is gone, now or later.
func DeletionInDoubt(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Metadata[metadataDeletion] == deletionInDoubt
}
