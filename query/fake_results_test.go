package query

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// What an engine may answer with: the rows of its tables, as many rows as one likes, or none for as long as one waits.

// scanAll gives the rows of every table that the text scans, one behind the other; they have the columns of the first.
func scanAll(ctx context.Context, s Statement) (Result, error) {
	var tables []Table
	for _, m := range scanCall.FindAllStringSubmatch(s.SQL, -1) {
		n, _ := strconv.Atoi(m[1])
		tables = append(tables, s.Tables[n])
	}
	if strings.HasPrefix(s.SQL, "EXPLAIN") {
		b := newTableBuilder(memory.DefaultAllocator, columnsOf("explain_key", textType, "explain_value", textType))
		b.row("physical_plan", "SCAN of "+strconv.Itoa(len(tables)))
		return owned{b.finish()}, nil
	}
	if len(tables) == 0 {
		b := newTableBuilder(memory.DefaultAllocator, columnsOf("1", int64Type))
		b.row(int64(1))
		return owned{b.finish()}, nil
	}
	out := &memoryTable{schema: tables[0].Schema()}
	all := make([]int, out.schema.NumFields())
	for i := range all {
		all[i] = i
	}
	for _, t := range tables {
		scan, err := t.Scan(all[:min(len(all), t.Schema().NumFields())])
		if err != nil {
			return nil, err
		}
		for {
			rec, err := scan.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			out.records = append(out.records, array.NewRecord(out.schema, rec.Columns(), rec.NumRows()))
			rec.Release()
		}
		scan.Close()
	}
	return owned{out}, nil
}

// owned is a table that its reading as a result releases.
type owned struct{ *memoryTable }

func (o owned) Close() { o.Release() }

// generator gives rows of one BIGINT column, until it has given all.
type generator struct {
	rows    int64
	given   int64
	step    int64
	onClose func()
}

var generated = columnsOf("n", int64Type)

func (g *generator) Schema() *arrow.Schema { return generated }

func (g *generator) Next(ctx context.Context) (arrow.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	n := min(g.rows-g.given, max(g.step, 1))
	if n == 0 {
		return nil, io.EOF
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	for i := range n {
		b.Append(g.given + i)
	}
	g.given += n
	col := b.NewArray()
	defer col.Release()
	return array.NewRecord(generated, []arrow.Array{col}, n), nil
}

func (g *generator) Close() {
	if g.onClose != nil {
		g.onClose()
	}
}

// stuck gives nothing until its context ends.
type stuck struct{ begun chan struct{} }

func (s stuck) Schema() *arrow.Schema { return generated }

func (s stuck) Next(ctx context.Context) (arrow.Record, error) {
	select {
	case s.begun <- struct{}{}:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (s stuck) Close() {}
