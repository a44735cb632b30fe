// Package conformance runs Kafka clients that others wrote against a Tidemark process, and makes the table of clients and features in
// docs/kafka.md of what ran.
//
//	go test ./...        the clients that are Go modules: franz-go, sarama, kafka-go, and librdkafka inside confluent-kafka-go
//	-compat              besides, clients of other languages and Kafka's own tools; they need a JVM, Maven, Node, npm and kcat
//	-update              write what ran into results/ and docs/kafka.md
//
// It is a module of its own, so that Tidemark's own does not depend on them, and imports nothing of Tidemark: it builds the command, or takes
// the one that TIDEMARK_BIN names, starts `tidemark dev`, and asks the command line what a record is for readers that do not speak Kafka's
// protocol.
//
// Each feature (features_test.go) is one story that every client is put through. A client (client.go) is a thin layer over a library;
// those of other languages are programs that take the same steps as JSON lines (process_test.go). What a client does not offer is said with it, and
// is a dash in the table; a feature that fails fails the test, and without -update so does a table that is not what ran.
package conformance
