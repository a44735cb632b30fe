// Package client talks to Tidemark from Go: topics, a [Producer] and a [Consumer], over Connect.
//
// # What a Producer guarantees
//
//   - Records of one partition are in the log in the order in which Produce took them.
//   - With the defaults (acks of all, idempotence) every acknowledged record is in the log exactly once, whatever connections
//     broke on the way, within the server's producer.expiry.
//   - A failure says what is known: errors.Is(err, [ErrRefused]) means that the record is not in the log, errors.Is(err,
//     [ErrOutcomeUnknown]) that it may or may not be. The second is never reported as the first.
//   - Memory is bounded by BufferBytes: Produce waits when it is used up.
//
// # How it keeps order across retries
//
// Every partition has a queue of sealed batches; the first few of them are in flight, with consecutive sequence numbers. These
// are the rules that are not obvious:
//
//   - After the first failure in a partition nothing more is sent until everything in flight has been answered, or the
//     connection is gone. What fails behind a failed batch fails because of it, so those answers decide nothing; all of it is
//     sent again in order, with the same sequence numbers. A batch behind it that was accepted keeps its answer until its turn.
//   - A batch is in doubt from the moment when an attempt had no answer that excludes success, and stays so: a refusal of a
//     later attempt says nothing about the earlier one.
//   - When a batch is given up, the sequence has a gap that the server will never let pass. The partition then takes a new
//     producer id and begins at 0. The batches behind the gap may be renumbered exactly because the server refused them for
//     the gap; when the lost batch was itself in doubt, those behind it that are in doubt too are reported as unknown instead.
//   - Sequence numbers are given when a batch is first sent, not when it is sealed, so that a batch that was never sent
//     leaves no gap.
//   - Without idempotence one batch a partition is in flight, since a server cannot put order into retries, and a batch in doubt
//     fails by name rather than being sent twice.
//
// # What a Consumer guarantees
//
// It returns every record of its partitions from its start on, in order within a partition, once, across reconnects; checksums are
// verified. A hole that the server does not declare is an error, never a silent skip.
package client
