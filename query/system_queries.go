package query

import "context"

// systemQueries is system.queries: the queries that wait and run on this server, this one included, and the last that ended.
var systemQueries = systemTable{
	name: "queries",
	schema: columnsOf(
		"query_id", textType, "state", textType, "sql", textType, "client", textType, "started", timeType,
		"elapsed_ms", int64Type, "rows", int64Type, "rows_read", int64Type, "position", textType, "error", textType,
	),
	read: func(_ context.Context, s *Service, b *tableBuilder) error {
		for _, r := range s.registry.records() {
			var position, failure any
			if r.position != "" {
				position = r.position
			}
			if r.err != "" {
				failure = r.err
			}
			b.row(r.id, string(r.state), r.sql, r.client, r.started, r.elapsed.Milliseconds(), r.rows, r.read, position, failure)
		}
		return nil
	},
}
