// Package speedtest measures tail and engine together beside plain DuckDB on the same data, in one run. It has no code but
// benchmarks:
//
//	go test ./query/speedtest -run '^$' -bench .
package speedtest
