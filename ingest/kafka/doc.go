// Package kafka is the Kafka listener: programs that speak Kafka's protocol produce to, fetch from and coordinate over the same log
// as everybody else. The wire types are those of franz-go's kmsg; what a request means is decided by package ingest and the group machine.
//
//	             one connection
//	bytes ──► frame ──► decode ──► handle, one after the other ──► answers, in the order of the requests ──► bytes
//	          caps       caps       a produce is answered when it       writer, with a deadline
//	          room                  is durable, and does not hold up
//	                                the requests behind it
//
// # Order
//
// Requests of a connection are handled in their order, and answered in their order. A produce is handled when the node has taken it; its
// answer comes later, so that a producer has many under way while each waits for the object store. Everything else holds up what comes behind it,
// as it does at Kafka's brokers: a fetch that waits for records, a join that waits for a rebalance.
//
// # What a client can make the node hold
//
//   - A frame has a size that its kind of request allows (api.go). Its memory grows with the bytes that have arrived, and what all frames of all
//     clients take has a room (package room), one for produces and one for all others. Who holds some and sends hardly anything for a while is
//     disconnected when others wait. A frame asks for room when what is before it on its connection is handled, or waits for nothing.
//   - A decoder of kmsg makes up to a hundred times of a hostile frame. So a decode takes that from a room as well, and lists have caps
//     that are counted before anything is made of them (produce_skim.go) where frames may be large. Whoever serves a request drops it before it waits, or
//     keeps of that room what the request takes in fact (weigh.go). It is dropped before its answer waits.
//   - A connection has few requests under way besides its produces, and small answers of a megabyte (backlog.go): the next request of a client
//     that does not read is not handled. So small answers take no room of all clients, and wait for nobody else's.
//   - Larger answers share a room, most of them fetches, whose bytes are the log's and are written from where they are. A client that takes them slowly
//     is disconnected when others wait.
//   - Answers that may be far larger than their requests, such as one about all partitions of a cluster, are made in a room of their own
//     (call.reserve). What a produce keeps for its answer has another (call.hold), and without any it is refused: nothing waits for the object store
//     but what the log has taken.
//   - So many connections may be open, half of them from one address.
//
// # Versions
//
// api.go has the versions of each request that are served. ApiVersions of any version is answered. A request of another kind and a version that is not
// served ends its connection, as at Kafka's brokers. Produce is offered from version 0 on, though
// 0 to 2 are refused: librdkafka takes the offer for a sign that it may compress (KAFKA-18659).
//
// # Brokers
//
// Kafka knows brokers by number. A node's is a hash of its id (brokers.go). Its address is what it advertises; a node that advertises nothing is
// told to each client by the address that the client dialled.
package kafka
