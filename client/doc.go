// Package client talks to Tidemark from Go: topics, a [Producer], a [Consumer] and a [GroupConsumer], and SQL, over Connect.
//
// # What a Producer guarantees
//
//   - Records of one partition are in the log in the order in which Produce took them.
//   - With the defaults (acks of all, idempotence) every acknowledged record is in the log exactly once, whatever connections
//     broke, nodes died or leaders changed on the way, within the server's producer.expiry.
//   - A failure says what is known: errors.Is(err, [ErrRefused]) means that the record is not in the log, errors.Is(err,
//     [ErrOutcomeUnknown]) that it may or may not be. The second is never reported as the first.
//   - Memory is bounded by BufferBytes, beside one batch for each node that hangs: Produce waits when it is used up.
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
//     later attempt says nothing about the earlier one. NOT_LEADER excludes success, and so does a connection that could not be made.
//   - When a batch is given up, the sequence has a gap that the server will never let pass. The partition then takes a new
//     producer id and begins at 0. The batches behind the gap may be renumbered exactly because the server refused them for
//     the gap; when the lost batch was itself in doubt, those behind it that are in doubt too are reported as unknown instead.
//   - Sequence numbers are given when a batch is first sent, not when it is sealed, so that a batch that was never sent
//     leaves no gap.
//   - Without idempotence one batch a partition is in flight, since a server cannot put order into retries, and a batch in doubt
//     fails by name rather than being sent twice.
//   - OUT_OF_ORDER_SEQUENCE is tried again twice before it is believed: a leader that lost the partition and has not heard of it yet
//     knows fewer batches than the next one.
//   - FENCED_PRODUCER ends the Producer: somebody else writes under its id.
//
// # How a client finds its way
//
// Any of the configured servers takes any call and forwards it to whoever leads. From the first topic that is followed on (a Producer
// and a Consumer follow theirs) the client keeps one metadata stream open to one of the nodes. It tells which nodes are
// alive, at which addresses, and who leads which partition at which epoch, and tells again when that changes; nothing is asked in
// turns. Then calls go straight to the leaders, and the nodes learned are further starts when the configured servers are down.
//
//	view      what the messages say: pure. Older revisions change nothing, epochs do not go back
//	cluster   addresses and how they fare; who is asked next
//	watch     the stream, and its reopening
//	route     which node a producer's partition goes to
//	sender    one stream of a producer to one node
//
// Metadata are advice. Where they are missing, wrong or name an address that cannot be reached, calls go to any node, which forwards;
// an address that cannot be dialled is left alone for 30 s, then longer, or until its node begins another life. Servers that know no
// metadata, Config.DisableDirect and a Config.HTTP of the caller's own leave it at the configured servers. All guarantees hold on
// any way.
//
// # How a Producer follows the leader
//
//   - All batches of a partition that are in flight are at one node, over one stream. A partition goes to another node only when none is.
//   - A leader that is refused with NOT_LEADER is tried again after a back-off, once; then the partition goes over a node that forwards,
//     for 10 s or until the metadata name another leader or a higher epoch. Such news cut every back-off short.
//   - News of a leader at another node and a higher epoch also end the wait for what is in flight at the former one, which may be dead,
//     or stopped with its connections open. Those batches are in doubt, and are sent to the new leader at once, in order, with their
//     sequence numbers. No doubles come of it, though copies may still arrive at the old leader at any later time: a leader commits only
//     while it is assigned at its epoch, in one transaction with that condition, and the next epoch began by changing the assignment. So
//     what the old leader has committed by then the new one knows, sequence numbers included, and answers with the first offsets; the rest
//     the old one can commit no more. Should it lead again, at a later epoch, its log has those sequence numbers already, and a late copy
//     is a duplicate or out of order, never new.
//     It follows that this is for idempotent producers, and for batches that went straight to a leader. All others wait
//     until the node answers or its connection ends; a connection on which pings are not answered ends after 6 s.
//   - A stream that ends fails the batches of its own partitions. An address is left in peace for a moment after that, with jitter, so
//     that a node which comes back is not met by all at once.
//
// # What a Consumer guarantees
//
// It returns every record of its partitions from its start on, in order within a partition, once, across reconnects and changes of leader;
// checksums are verified. A hole that the server does not declare is an error, never a silent skip.
package client
