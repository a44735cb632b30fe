package record

// Header is one header of a record. A nil Value is null.
type Header struct {
	// Key is valid UTF-8; it may be empty and may occur more than once.
	Key   string
	Value []byte
}

// Record is one record in decoded form.
type Record struct {
	// Offset is set on decode and ignored on encode.
	Offset int64
	// Timestamp is in milliseconds since the Unix epoch; -1 is Kafka's "none".
	Timestamp int64
	// Key and Value are null when nil, a nil Value being a tombstone; an empty slice that is not nil is an empty value.
	Key, Value []byte
	Headers    []Header
}
