package query

import (
	"context"

	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
)

// systemColumns is system.columns: the columns of every topic, in their order. key is the JSON field of a typed column. A column is
// there since the record at since_partition and since_offset was read; both are NULL for columns that every topic has and for
// those that a setting made. misfits counts the rows whose value is of another type, among those that this server holds; it is
// NULL while it holds none of the topic.
var systemColumns = systemTable{
	name: "columns",
	schema: columnsOf(
		"topic", textType, "column", textType, "type", textType, "key", textType, "position", int32Type, "overridden", boolType,
		"since_partition", int32Type, "since_offset", int64Type,
		"misfits", int64Type, "first_misfit_partition", int32Type, "first_misfit_offset", int64Type,
	),
	read: func(ctx context.Context, s *Service, b *tableBuilder) error {
		topics, schemas, err := s.topicsWithColumns(ctx)
		if err != nil {
			return err
		}
		held := make(map[string]tail.Stats)
		for _, t := range s.tail.Stats() {
			held[t.TopicID] = t
		}
		for i, t := range topics {
			stats, holds := held[t.ID.String()]
			columnRows(t.Name, schemas[i], stats.Misfits, holds, b)
		}
		return nil
	},
}

// columnRows adds the columns of one topic.
func columnRows(topic string, schema *column.Schema, misfits []tail.Misfit, held bool, b *tableBuilder) {
	fields := make(map[string]column.Field, len(schema.Fields))
	for _, f := range schema.Fields {
		fields[f.Name] = f
	}
	found := make(map[string]tail.Misfit, len(misfits))
	for _, m := range misfits {
		found[m.Column] = m
	}
	for i, c := range schema.Columns() {
		var key, sincePartition, sinceOffset, count, partition, offset any
		f, typed := fields[c.Name]
		if typed {
			key = f.Key
		}
		if typed && f.Partition >= 0 {
			sincePartition, sinceOffset = f.Partition, f.Offset
		}
		if held {
			count = int64(0)
		}
		if m, has := found[c.Name]; has {
			count, partition, offset = m.Rows, m.Partition, m.Offset
		}
		b.row(topic, c.Name, c.Type, key, int32(i+1), f.Overridden, sincePartition, sinceOffset, count, partition, offset)
	}
}
