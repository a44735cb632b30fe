package group

import (
	"errors"
	"strconv"
)

// Error is why a request was refused. Its values are the error codes of the Kafka protocol, so a listener copies them and
// another API maps them. Errors that wrap one add what was wrong in this case.
type Error int16

// Every error with which the machine answers.
const (
	// ErrCoordinatorNotAvailable: the outcome of a rebalance could not be made durable yet. Send the request again.
	ErrCoordinatorNotAvailable Error = 15
	// ErrNotCoordinator: this node does not coordinate the group any more. Ask again who does.
	ErrNotCoordinator Error = 16
	// ErrIllegalGeneration: the member speaks of another generation than its last one. Join again.
	ErrIllegalGeneration Error = 22
	// ErrInconsistentGroupProtocol: the member has no protocol, strategy or kind in common with those that are there.
	ErrInconsistentGroupProtocol Error = 23
	// ErrUnknownMemberID: no such member. It never was one, has left, or was removed by a timeout; join as a new one, and
	// count every partition as lost.
	ErrUnknownMemberID Error = 25
	// ErrInvalidSessionTimeout: the session timeout lies outside the limits.
	ErrInvalidSessionTimeout Error = 26
	// ErrRebalanceInProgress: the group rebalances. Join again.
	ErrRebalanceInProgress Error = 27
	// ErrInvalidRequest: the request contradicts itself or is above a limit; it cannot succeed as it is.
	ErrInvalidRequest Error = 42
	// ErrNonEmptyGroup: the group has members, so it cannot be deleted.
	ErrNonEmptyGroup Error = 68
	// ErrMemberIDRequired: join again with the member id of this answer.
	ErrMemberIDRequired Error = 79
	// ErrGroupMaxSizeReached: the group has as many members, or as many bytes of them, as it may have.
	ErrGroupMaxSizeReached Error = 81
	// ErrFencedInstanceID: another process joined with this instance id later. Stop.
	ErrFencedInstanceID Error = 82
)

// String is the error's name in the Kafka protocol.
func (e Error) String() string {
	switch e {
	case ErrCoordinatorNotAvailable:
		return "COORDINATOR_NOT_AVAILABLE"
	case ErrNotCoordinator:
		return "NOT_COORDINATOR"
	case ErrIllegalGeneration:
		return "ILLEGAL_GENERATION"
	case ErrInconsistentGroupProtocol:
		return "INCONSISTENT_GROUP_PROTOCOL"
	case ErrUnknownMemberID:
		return "UNKNOWN_MEMBER_ID"
	case ErrInvalidSessionTimeout:
		return "INVALID_SESSION_TIMEOUT"
	case ErrRebalanceInProgress:
		return "REBALANCE_IN_PROGRESS"
	case ErrInvalidRequest:
		return "INVALID_REQUEST"
	case ErrNonEmptyGroup:
		return "NON_EMPTY_GROUP"
	case ErrMemberIDRequired:
		return "MEMBER_ID_REQUIRED"
	case ErrGroupMaxSizeReached:
		return "GROUP_MAX_SIZE_REACHED"
	case ErrFencedInstanceID:
		return "FENCED_INSTANCE_ID"
	default:
		return "CODE_" + strconv.Itoa(int(e))
	}
}

// Error tells what happened and what the member does about it.
func (e Error) Error() string {
	switch e {
	case ErrCoordinatorNotAvailable:
		return "the rebalance is not durable yet; send the request again"
	case ErrNotCoordinator:
		return "this node does not coordinate the group; ask again who does"
	case ErrIllegalGeneration:
		return "the generation is not the member's last one; join again"
	case ErrInconsistentGroupProtocol:
		return "no protocol, strategy or kind in common with the members of the group"
	case ErrUnknownMemberID:
		return "the group has no such member; join as a new one"
	case ErrInvalidSessionTimeout:
		return "the session timeout is outside the limits"
	case ErrRebalanceInProgress:
		return "the group rebalances; join again"
	case ErrInvalidRequest:
		return "the request is not valid"
	case ErrNonEmptyGroup:
		return "the group has members; stop them first"
	case ErrMemberIDRequired:
		return "join again with the member id of this answer"
	case ErrGroupMaxSizeReached:
		return "the group is full"
	case ErrFencedInstanceID:
		return "another process has joined with this instance id; stop"
	default:
		return e.String()
	}
}

// CodeOf is the Error that err is or wraps; 0 for nil, and for an error that is not of this package.
func CodeOf(err error) Error {
	code, _ := errors.AsType[Error](err)
	return code
}
