// Package kafkabench measures the Kafka listener beside Apache Kafka: the same clients, the same machine, one run, one after the other in turns, so
// that what the machine does in the meantime meets both. `make bench-kafka` runs it and prints a table; docs/benchmarks.md has one with its commands.
//
// # Who is measured
//
//	tidemark-disk     tidemark dev, which has store and etcd in its process and its data directory, a topic with durability=disk: acknowledged when it is synced to the disk
//	tidemark-object   the same with durability=object on the local store: acknowledged when stored and committed
//	tidemark-object on MinIO: tidemark serve with a MinIO and an etcd of their own, and its settings for S3; its CPU is the node's alone
//	kafka             Apache Kafka of peer/pom.xml, one broker in KRaft mode with its default settings: acknowledged when it is in the page cache
//
// # With what
//
//   - raw: connections that send the same encoded batches again and again, so many requests in flight each, and read the answers. The generator costs next
//     to nothing, and what is measured is the server. Without producer id.
//   - kgo: franz-go's client, idempotent, records encoded one by one. It costs more than the server does.
//   - Kafka's own tools: kafka-producer-perf-test and kafka-consumer-perf-test.
//
// Server CPU is user and system time of the server's process during the run, from /proc, per GiB of records before compression. Resident memory is
// that at the end of the run.
package kafkabench
