package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
)

// Kafka has codes where we have reasons. What a client does about a code decides which one it is: with some it asks who leads, with some it sends
// the same again, and with some it gives up.

// codeOf is the code of an error of the node or of a group; 0 for nil.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	if kafka, ok := errors.AsType[*kerr.Error](err); ok {
		return kafka.Code
	}
	if code := group.CodeOf(err); code != 0 {
		return int16(code) // they are Kafka's own
	}
	return codeOfReason(ingest.ReasonOf(err)).Code
}

func codeOfReason(r ingest.Reason) *kerr.Error {
	switch r {
	case ingest.ReasonUnknownTopic, ingest.ReasonUnknownPartition:
		return kerr.UnknownTopicOrPartition
	case ingest.ReasonTopicExists:
		return kerr.TopicAlreadyExists
	case ingest.ReasonInvalidTopic:
		return kerr.InvalidTopicException
	case ingest.ReasonInvalidConfig:
		return kerr.InvalidConfig
	case ingest.ReasonInvalidRequest:
		return kerr.InvalidRequest
	case ingest.ReasonInvalidRecord:
		return kerr.InvalidRecord
	case ingest.ReasonCorruptBatch:
		return kerr.CorruptMessage
	case ingest.ReasonUnknownCodec:
		return kerr.UnsupportedCompressionType
	case ingest.ReasonTooLarge:
		return kerr.MessageTooLarge
	case ingest.ReasonOffsetOutOfRange:
		return kerr.OffsetOutOfRange
	case ingest.ReasonNotLeader, ingest.ReasonShuttingDown:
		return kerr.NotLeaderForPartition
	case ingest.ReasonBackPressure:
		// Nothing was appended, and the same may be sent again.
		return kerr.NotEnoughReplicas
	case ingest.ReasonOutOfOrderSequence:
		return kerr.OutOfOrderSequenceNumber
	case ingest.ReasonUnknownProducer:
		return kerr.UnknownProducerID
	case ingest.ReasonFencedProducer:
		return kerr.InvalidProducerEpoch
	case ingest.ReasonOutcomeUnknown:
		// It may have been appended, and a producer with an id may send the same again.
		return kerr.NotEnoughReplicasAfterAppend
	case ingest.ReasonCorruptData:
		return kerr.KafkaStorageError
	case ingest.ReasonTimeout, ingest.ReasonCanceled:
		return kerr.RequestTimedOut
	case ingest.ReasonUnavailable:
		return kerr.LeaderNotAvailable
	case ingest.ReasonInvalidGroup:
		return kerr.InvalidGroupID
	case ingest.ReasonUnknownGroup:
		return kerr.GroupIDNotFound
	case ingest.ReasonGroupNotEmpty:
		return kerr.NonEmptyGroup
	case ingest.ReasonGroupFull:
		return kerr.GroupMaxSizeReached
	case ingest.ReasonNotCoordinator:
		return kerr.NotCoordinator
	case ingest.ReasonUnknownMemberID:
		return kerr.UnknownMemberID
	case ingest.ReasonMemberIDRequired:
		return kerr.MemberIDRequired
	case ingest.ReasonIllegalGeneration:
		return kerr.IllegalGeneration
	case ingest.ReasonRebalanceInProgress:
		return kerr.RebalanceInProgress
	case ingest.ReasonFencedInstanceID:
		return kerr.FencedInstanceID
	case ingest.ReasonInconsistentGroupProtocol:
		return kerr.InconsistentGroupProtocol
	default:
		return kerr.UnknownServerError
	}
}

// messageOf is what people are told beside a code; nil for nil.
func messageOf(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	const most = 1024
	if len(text) > most {
		text = text[:most]
	}
	return &text
}
