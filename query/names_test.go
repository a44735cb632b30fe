package query

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/query/sandbox"
)

func TestColumnsShowTheTablesThatWereWritten(t *testing.T) {
	const body = `SELECT (SELECT max(c) FROM users) , (SELECT 1 FROM "a-b" x), (SELECT 2 FROM users) `
	p := &plan{of: []int{1, 0, 1}, checked: &checked{body: body, statement: &sandbox.Statement{References: []sandbox.Reference{
		{Name: "users", Start: 27, End: 32}, {Name: "a-b", Alias: "x", Start: 51, End: 56}, {Name: "users", Start: 76, End: 81},
	}}}}
	for in, want := range map[string]string{
		`(SELECT max(c) FROM tidemark_scan(1) AS users)`:              `(SELECT max(c) FROM users)`,
		`(SELECT 1 FROM tidemark_scan(0) AS x)`:                       `(SELECT 1 FROM "a-b" AS x)`,
		`tidemark_scan(0) AS "a-b" and tidemark_scan(1) AS "q ""r"""`: `"a-b" and users AS "q ""r"""`,
		`tidemark_scan(7) AS z`:                                       `tidemark_scan(7) AS z`,
		`my_tidemark_scan(0)`:                                         `my_tidemark_scan(0)`,
		`plain`:                                                       `plain`,
	} {
		got := p.named(arrow.NewSchema([]arrow.Field{{Name: "first", Type: arrow.PrimitiveTypes.Int64}, {Name: in, Type: arrow.PrimitiveTypes.Int64}}, nil))
		if got.Field(0).Name != "first" || got.Field(1).Name != want {
			t.Errorf("%s: %s, want %s", in, got.Field(1).Name, want)
		}
	}
}
