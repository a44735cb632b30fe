package query

import (
	"context"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/sandbox"
)

// What the catalog answers itself. These rows go to the client and never to an engine, so they may be Go's memory.

// showTables answers SHOW TABLES: the topics.
func (s *Service) showTables(ctx context.Context) (*memoryTable, error) {
	topics, err := s.topics.List(ctx)
	if err != nil {
		return nil, unavailable("list the topics", err)
	}
	b := newTableBuilder(memory.DefaultAllocator, columnsOf("name", textType, "partitions", int32Type, "durability", textType))
	for _, t := range topics {
		b.row(t.Name, t.Partitions, t.Config.Durability.String())
	}
	return b.finish(), nil
}

// describesTable tells whether a statement is DESCRIBE of one table by its name. DESCRIBE of a query is the engine's.
func (c *checked) describesTable() bool {
	if c.statement.Kind != sandbox.Describe || len(c.statement.References) != 1 {
		return false
	}
	r := c.statement.References[0]
	verb, rest := spoken(c.body[:r.Start]), spoken(c.body[r.End:])
	return rest == "" && (strings.EqualFold(verb, "describe") || strings.EqualFold(verb, "desc") || strings.EqualFold(verb, "show"))
}

// spoken is what a text without quotes says: without its comments, which may nest, and the blanks and semicolons around.
func spoken(text string) string {
	var out strings.Builder
	for depth := 0; text != ""; {
		n := 1
		switch {
		case strings.HasPrefix(text, "/*"):
			n = 2
			depth++
			out.WriteByte(' ')
		case depth > 0 && strings.HasPrefix(text, "*/"):
			n = 2
			depth--
		case depth > 0:
		case strings.HasPrefix(text, "--"):
			if n = strings.IndexByte(text, '\n'); n < 0 {
				n = len(text)
			}
		default:
			out.WriteByte(text[0])
		}
		text = text[n:]
	}
	return strings.Trim(out.String(), "; \t\r\n\v\f")
}

func newDescription() *tableBuilder {
	return newTableBuilder(memory.DefaultAllocator, columnsOf("column_name", textType, "column_type", textType, "json_key", textType))
}

// describeTopic answers DESCRIBE of a topic. A column whose name differs from its field's has the field's as json_key.
func describeTopic(schema *column.Schema) *memoryTable {
	keys := make(map[string]any, len(schema.Fields))
	for _, f := range schema.Fields {
		if f.Name != f.Key {
			keys[f.Name] = f.Key
		}
	}
	b := newDescription()
	for _, c := range schema.Columns() {
		b.row(c.Name, c.Type, keys[c.Name])
	}
	return b.finish()
}

// describeSystem answers DESCRIBE of a system table.
func describeSystem(t *systemTable) *memoryTable {
	b := newDescription()
	for _, f := range t.schema.Fields() {
		b.row(f.Name, sqlType(f.Type), nil)
	}
	return b.finish()
}

// explainCatalog answers EXPLAIN of what the catalog answers.
func explainCatalog() *memoryTable {
	b := newTableBuilder(memory.DefaultAllocator, columnsOf("explain_key", textType, "explain_value", textType))
	b.row("physical_plan", "The catalog answers this; nothing is read.")
	return b.finish()
}
