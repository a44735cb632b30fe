package client

import "github.com/tidemark-io/tidemark/record"

// PartitionForKey is the partition of a key among n, which is above 0, as Kafka's Java client chooses it.
func PartitionForKey(key []byte, n int32) int32 { return record.PartitionForKey(key, n) }
