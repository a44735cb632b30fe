package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// Reasons of consumer groups.
const (
	// ReasonInvalidGroup: no group can have this name.
	ReasonInvalidGroup Reason = "INVALID_GROUP"
	// ReasonUnknownGroup: there is no group of this name.
	ReasonUnknownGroup Reason = "UNKNOWN_GROUP"
	// ReasonGroupNotEmpty: the group has members, and what was asked for needs one without.
	ReasonGroupNotEmpty Reason = "GROUP_NOT_EMPTY"
	// ReasonGroupFull: the group has as many members, or bytes of them, as it may have.
	ReasonGroupFull Reason = "GROUP_FULL"
	// ReasonNotCoordinator: this node does not coordinate the group (any more). Nothing is known of a commit that was under way: it may
	// have been stored, and committing the same again is right. Retryable.
	ReasonNotCoordinator Reason = "NOT_COORDINATOR"
	// ReasonUnknownMemberID: the group has no such member: it was silent for too long, has left, or the group has a new coordinator. Join
	// as a new one, and count every partition as lost.
	ReasonUnknownMemberID Reason = "UNKNOWN_MEMBER_ID"
	// ReasonMemberIDRequired: join again with the member id of the answer.
	ReasonMemberIDRequired Reason = "MEMBER_ID_REQUIRED"
	// ReasonIllegalGeneration: the member speaks of another generation than the present one. Join again.
	ReasonIllegalGeneration Reason = "ILLEGAL_GENERATION"
	// ReasonRebalanceInProgress: the partitions are shared out anew. Join again.
	ReasonRebalanceInProgress Reason = "REBALANCE_IN_PROGRESS"
	// ReasonFencedInstanceID: another process has joined under this instance id. Stop.
	ReasonFencedInstanceID Reason = "FENCED_INSTANCE_ID"
	// ReasonInconsistentGroupProtocol: the member and the group share no protocol or strategy.
	ReasonInconsistentGroupProtocol Reason = "INCONSISTENT_GROUP_PROTOCOL"
)

// groupError says what the machine of a group answered. The code of Kafka's protocol stays below: group.CodeOf finds it.
func groupError(name string, err error) *Error {
	reason := ReasonInternal
	switch group.CodeOf(err) {
	case group.ErrCoordinatorNotAvailable:
		reason = ReasonUnavailable
	case group.ErrNotCoordinator:
		reason = ReasonNotCoordinator
	case group.ErrIllegalGeneration:
		reason = ReasonIllegalGeneration
	case group.ErrInconsistentGroupProtocol:
		reason = ReasonInconsistentGroupProtocol
	case group.ErrUnknownMemberID:
		reason = ReasonUnknownMemberID
	case group.ErrRebalanceInProgress:
		reason = ReasonRebalanceInProgress
	case group.ErrInvalidRequest, group.ErrInvalidSessionTimeout:
		reason = ReasonInvalidRequest
	case group.ErrNonEmptyGroup:
		reason = ReasonGroupNotEmpty
	case group.ErrMemberIDRequired:
		reason = ReasonMemberIDRequired
	case group.ErrGroupMaxSizeReached:
		reason = ReasonGroupFull
	case group.ErrFencedInstanceID:
		reason = ReasonFencedInstanceID
	}
	return &Error{Reason: reason, Message: fmt.Sprintf("group %q: %v", name, err), Cause: err}
}

// notCoordinator is what everybody is told whose group is not here (any more).
func notCoordinator(name, why string) *Error {
	return Errorf(ReasonNotCoordinator, "group %q is not coordinated here: %s; send the request again: %w", name, why, group.ErrNotCoordinator)
}

// groupMetaError says why etcd did not do what a group needs; verb is what was to be done to it. An end of the context is that of the actor: what it
// means for a caller whose own has ended callerGone says.
func groupMetaError(verb, name string, err error) *Error {
	switch {
	case errors.Is(err, meta.ErrNotCoordinator):
		return notCoordinator(name, "another node, or a later life of this one, has taken it over")
	case errors.Is(err, meta.ErrLeaseGone):
		return notCoordinator(name, "this node has lost its lease in etcd, and is to begin anew")
	case errors.Is(err, context.Canceled):
		return notCoordinator(name, fmt.Sprintf("this node gave it up before it could %s it", verb))
	case errors.Is(err, context.DeadlineExceeded):
		return notCoordinator(name, fmt.Sprintf("this node could not %s it, because etcd has not answered within %v", verb, groupPatience))
	case errors.Is(err, meta.ErrTooLarge):
		return Errorf(ReasonTooLarge, "%s group %q: %w: commit in fewer topics, or with less metadata", verb, name, err)
	case errors.Is(err, meta.ErrFormat):
		return Errorf(ReasonCorruptData, "%s group %q: what etcd keeps of it cannot be read; a newer release has written it, or it is damaged: %w", verb, name, err)
	}
	return Errorf(ReasonUnavailable, "%s group %q: etcd could not be asked; send the request again: %w", verb, name, err).WithRetryAfter(defaultRetryAfter)
}

// checkGroupName refuses what cannot be a group's name before anybody looks for it.
func checkGroupName(name string) *Error {
	if err := meta.ValidateGroupName(name); err != nil {
		return Errorf(ReasonInvalidGroup, "%w", err)
	}
	return nil
}
