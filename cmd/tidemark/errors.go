package main

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/client"
)

// doing says what was tried when err happened: its text is "<what>: <cause>", without the code words of the protocol.
// It is nil when err is.
func doing(err error, what string, args ...any) error {
	if err == nil {
		return nil
	}
	return &attempt{what: fmt.Sprintf(what, args...), err: err}
}

type attempt struct {
	what string
	err  error
}

func (a *attempt) Error() string { return a.what + ": " + messageOf(a.err) }
func (a *attempt) Unwrap() error { return a.err }

// messageOf is the text of err. That of the server is a sentence already, without words of the protocol.
func messageOf(err error) string { return err.Error() }

// reasonOf returns the stable word and its metadata that came with an error of the server, or "".
func reasonOf(err error) (string, map[string]string) {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e.Reason, e.Metadata
	}
	return "", nil
}

// classify turns any error of a command into one with an exit code and a next step.
func (a *app) classify(ctx context.Context, err error) *failure {
	if f := (*failure)(nil); errors.As(err, &f) {
		return &failure{code: f.code, next: f.next, err: err}
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeCanceled) {
		return &failure{code: exitInterrupted, err: errors.New("interrupted")}
	}
	if reason, metadata := reasonOf(err); reason != "" {
		code, next := adviceFor(reason, metadata)
		if reason == client.ReasonUnreachable {
			next += " (now " + a.server + ")"
		}
		return &failure{code: code, next: next, err: err}
	}
	return &failure{code: exitFailed, err: err}
}

// adviceFor gives the exit code and the next step for a reason of the server.
func adviceFor(reason string, metadata map[string]string) (code int, next string) {
	if code, next, ok := queryAdvice(reason, metadata); ok {
		return code, next
	}
	if code, next, ok := clusterAdvice(reason); ok {
		return code, next
	}
	switch reason {
	case client.ReasonUnreachable:
		return exitUnreachable, "is the server running? `tidemark dev` starts one; --server or TIDEMARK_SERVER says where it is"
	case "DELIVERY_TIMEOUT":
		return exitUnreachable, "see whether the server is well, then send again what the summary does not count"
	case "UNKNOWN_TOPIC":
		return exitNotFound, "`tidemark topic list` shows the topics there are, `tidemark topic create` makes one"
	case "UNKNOWN_PARTITION":
		return exitNotFound, "`tidemark topic describe` shows the partitions there are"
	case "OFFSET_OUT_OF_RANGE":
		if start, end := metadata["log_start_offset"], metadata["high_watermark"]; start != "" && end != "" {
			return exitNotFound, fmt.Sprintf("the partition can be read from offset %s up to %s", start, end)
		}
		return exitNotFound, "`tidemark topic describe` shows where each partition begins and ends"
	case "TOPIC_EXISTS":
		return exitFailed, "choose another name, or take it as it is with --if-not-exists"
	case "INVALID_TOPIC", "INVALID_CONFIG", "INVALID_REQUEST":
		return exitUsage, "`tidemark topic create --help` lists what is allowed"
	case "TOO_LARGE":
		return exitFailed, "make the records smaller, or raise max.message.bytes with `tidemark topic alter`"
	case "BACK_PRESSURE":
		return exitFailed, "the server takes records again when what it names is well; nothing that was acknowledged is lost"
	case "OUTCOME_UNKNOWN":
		return exitFailed, "some of the last records may have been stored: look before you send them again"
	case "SHUTTING_DOWN", "NOT_LEADER", "UNAVAILABLE", "TIMEOUT":
		return exitFailed, "try again in a moment"
	case "CORRUPT_DATA":
		return exitFailed, "the server's log names the object and the place; the data there is not served"
	}
	return exitFailed, ""
}

// clusterAdvice is adviceFor for the reasons of nodes and consumer groups.
func clusterAdvice(reason string) (code int, next string, ok bool) {
	switch reason {
	case "UNKNOWN_NODE":
		return exitNotFound, "`tidemark cluster nodes` shows the nodes there are", true
	case "LAST_NODE":
		return exitFailed, "somebody has to take what it leads: start another node, or cancel the drain of one", true
	case "NODE_ALIVE":
		return exitFailed, "`tidemark cluster drain` moves what an alive node leads without any loss", true
	case "UNKNOWN_GROUP":
		return exitNotFound, "`tidemark group list` shows the groups there are", true
	case "INVALID_GROUP":
		return exitUsage, "a group's name has 1 to 255 bytes of UTF-8", true
	case "GROUP_NOT_EMPTY":
		return exitFailed, "stop its members first; `tidemark group describe` shows who they are", true
	case "GROUP_FULL":
		return exitFailed, "let it have fewer members", true
	case client.ReasonFencedInstance:
		return exitFailed, "another process has the same --instance-id: give each its own", true
	case "INCONSISTENT_GROUP_PROTOCOL":
		return exitFailed, "all members of a group need the same --strategy, and clients of one kind", true
	case client.ReasonNotAssigned, client.ReasonUnknownMember, client.ReasonIllegalGeneration, client.ReasonRebalanceInProgress:
		return exitFailed, "the group gave the partitions to others; what was printed last may be printed again by them", true
	case "NOT_COORDINATOR":
		return exitFailed, "try again in a moment", true
	}
	return 0, "", false
}

// queryAdvice is adviceFor for the reasons of queries. For a mistake in the statement the server knows better what to do, such as the
// nearest name.
func queryAdvice(reason string, metadata map[string]string) (code int, next string, ok bool) {
	switch reason {
	case client.ReasonSyntax:
		code, next = exitUsage, "one statement of DuckDB's SQL is wanted: SELECT, SHOW TABLES, DESCRIBE, SUMMARIZE or EXPLAIN"
	case client.ReasonUnknownColumn:
		code, next = exitUsage, "`tidemark sql 'DESCRIBE \"TABLE\"'` shows the columns of a table"
	case client.ReasonUnsupported, client.ReasonInvalidSQL:
		code = exitUsage // whatever it is, the message says it best
	case client.ReasonStatementNotAllowed, client.ReasonNotOneStatement, client.ReasonFunctionNotAllowed, client.ReasonTableNotAllowed:
		code, next = exitUsage, "a query reads topics and system tables, and calls functions that touch nothing else"
	case client.ReasonUnknownTable:
		code, next = exitNotFound, "`tidemark sql 'SHOW TABLES'` shows the tables there are; a name with '.' or '-' needs double quotes"
	case client.ReasonResultTooLarge:
		code, next = exitFailed, "ask for less: add LIMIT, or let the query add up; --max-rows says how many rows may come"
	case client.ReasonQueryMemory, client.ReasonQueryTempSpace:
		code, next = exitFailed, "read less at once: fewer columns, a condition on _timestamp or _offset, or fewer groups"
	case client.ReasonQueryTimeout:
		code, next = exitFailed, "give it more time with --timeout, up to the server's limit, or let it read less"
	case client.ReasonPositionNotReached:
		code, next = exitNotFound, "`tidemark topic describe` shows where each partition ends; ask without --at-least"
	case client.ReasonQueryCanceled:
		code, next = exitFailed, "somebody ended it; ask again if you still want the answer"
	case client.ReasonQueryQueueFull:
		code, next = exitFailed, "too many queries wait: try again in a moment"
	case client.ReasonNoSQLEngine:
		code, next = exitFailed, "ask a node whose build has the engine: one that was made with CGO_ENABLED=1"
	default:
		return 0, "", false
	}
	if metadata["next"] != "" {
		next = metadata["next"]
	}
	return code, next, true
}
