package record

// Limits bound what a batch may cost. A zero field means its default.
type Limits struct {
	// BatchBytes is the greatest size of a batch as it was received.
	BatchBytes int
	// DecompressedBytes is the greatest size of the records of a batch after decompression.
	DecompressedBytes int
	// Records is the greatest number of records in a batch.
	Records int
}

// DefaultLimits are 8 MiB received, 64 MiB decompressed and 2^20 records.
func DefaultLimits() Limits {
	return Limits{BatchBytes: 8 << 20, DecompressedBytes: 64 << 20, Records: 1 << 20}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.BatchBytes <= 0 {
		l.BatchBytes = d.BatchBytes
	}
	if l.DecompressedBytes <= 0 {
		l.DecompressedBytes = d.DecompressedBytes
	}
	if l.Records <= 0 {
		l.Records = d.Records
	}
	return l
}
