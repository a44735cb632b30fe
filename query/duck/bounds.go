//go:build cgo

package duck

import "fmt"

// What one call of a function may make for one row. DuckDB neither counts what a scalar function makes against its memory limit nor
// interrupts it, and calls it for 2,048 rows at once: `SELECT len(range(150000000))` takes seven gigabytes, whatever the limits
// say. Functions that make much of little are therefore replaced by macros of the same name that look at the size first. In FROM,
// range and generate_series make their rows one vector after the other, and stay as they are.
const (
	maxMadeText = 65_536 // characters
	maxMadeList = 16_384 // elements
)

// bounds are the statements that replace them.
func bounds() []string {
	text := func(size string) string {
		return fmt.Sprintf("WHEN %s > %d THEN error('a text that is made may have %d characters')", size, maxMadeText, maxMadeText)
	}
	list := func(size string) string {
		return fmt.Sprintf("WHEN %s > %d THEN error('a list that is made may have %d elements; in FROM, range() and generate_series() make rows without this limit')", size, maxMadeList, maxMadeList)
	}
	// Of numbers, or else of times: the step of those is an interval.
	steps := list("abs(TRY_CAST(b AS HUGEINT) - TRY_CAST(a AS HUGEINT)) / greatest(1, abs(TRY_CAST(c AS HUGEINT)))") + " " +
		list("abs(epoch_us(TRY_CAST(b::VARCHAR AS TIMESTAMP)) - epoch_us(TRY_CAST(a::VARCHAR AS TIMESTAMP))) / greatest(1, abs(epoch_us(TRY_CAST(c::VARCHAR AS INTERVAL))))")
	out := []string{
		"CREATE MACRO repeat(s, n) AS system.main.repeat(s, CASE " + text("n > 1 AND length(s)::HUGEINT * n") + " ELSE n END)",
	}
	for _, f := range []string{"lpad", "rpad"} {
		out = append(out, fmt.Sprintf("CREATE MACRO %[1]s(s, n, c) AS system.main.%[1]s(s, CASE %[2]s ELSE n END, c)", f, text("n > length(s) AND n")))
	}
	for _, f := range []string{"list_resize", "array_resize"} {
		out = append(out, fmt.Sprintf("CREATE MACRO %[1]s(l, n) AS system.main.%[1]s(l, CASE %[2]s ELSE n END), (l, n, v) AS system.main.%[1]s(l, CASE %[2]s ELSE n END, v)", f, list("n > len(l) AND n")))
	}
	for _, f := range []string{"range", "generate_series"} {
		out = append(out, fmt.Sprintf("CREATE MACRO %[1]s(a) AS system.main.%[1]s(CASE %[2]s ELSE a END), (a, b) AS system.main.%[1]s(a, CASE %[3]s ELSE b END), (a, b, c) AS system.main.%[1]s(CASE %[4]s ELSE a END, b, c)",
			f, list("a"), list("b::HUGEINT - a"), steps))
	}
	return append(out, "CREATE MACRO bitstring(s, n) AS system.main.bitstring(s, CASE "+text("n")+" ELSE n END)")
}
