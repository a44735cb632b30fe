package query

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"golang.org/x/sync/errgroup"
)

// systemSchema is the schema of the tables by which the server tells of itself.
const systemSchema = "system"

// systemTable is one of them. It is read when a statement refers to it, and at no other time.
type systemTable struct {
	name   string
	schema *arrow.Schema
	read   func(ctx context.Context, s *Service, b *tableBuilder) error
}

// systemTables are all of them, by name.
var systemTables = []*systemTable{&systemColumns, &systemPartitions, &systemQueries, &systemTopics}

// findSystemTable finds one by its name, ignoring case; nil when there is none.
func findSystemTable(name string) *systemTable {
	i := slices.IndexFunc(systemTables, func(t *systemTable) bool { return strings.EqualFold(t.name, name) })
	if i < 0 {
		return nil
	}
	return systemTables[i]
}

// fill reads a system table; the caller releases it.
func (t *systemTable) fill(ctx context.Context, s *Service) (*memoryTable, error) {
	b := newTableBuilder(s.memory, t.schema)
	if err := t.read(ctx, s, b); err != nil {
		b.drop()
		return nil, fmt.Errorf("read table system.%s: %w", t.name, err)
	}
	return b.finish(), nil
}

// atOnce is how many topics are asked about at the same time.
const atOnce = 8

// eachOf does something for each of many, at most limit at once, and gives the results in order.
func eachOf[T, R any](ctx context.Context, limit int, in []T, do func(ctx context.Context, t T) (R, error)) ([]R, error) {
	out := make([]R, len(in))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	for i, t := range in {
		group.Go(func() (err error) {
			return guarded(func() error {
				out[i], err = do(ctx, t)
				return err
			})
		})
	}
	return out, group.Wait()
}
