package query

import "context"

// systemTopics is system.topics: every topic with its settings.
var systemTopics = systemTable{
	name: "topics",
	schema: columnsOf(
		"name", textType, "id", textType, "partitions", int32Type, "durability", textType,
		"max_message_bytes", int64Type, "created", timeType,
	),
	read: func(ctx context.Context, s *Service, b *tableBuilder) error {
		topics, err := s.topics.List(ctx)
		if err != nil {
			return unavailable("list the topics", err)
		}
		for _, t := range topics {
			b.row(t.Name, t.ID.String(), t.Partitions, t.Config.Durability.String(), int64(t.Config.MaxMessageBytes), t.Created)
		}
		return nil
	},
}
