package ingest

// StreamBytes is the window of a produce stream, for tests.
const StreamBytes = streamBytes
