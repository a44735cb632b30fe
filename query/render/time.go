package render

import (
	"math"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// bindTime is nil when the array holds something else.
func bindTime(col arrow.Array, s style) appender {
	switch col := col.(type) {
	case *array.Date32:
		values := col.Date32Values()
		return quoted(s, func(dst []byte, row int) []byte {
			if word := infinite(int64(values[row]), math.MaxInt32); word != "" {
				return append(dst, word...)
			}
			return appendDate(dst, int64(values[row]))
		})
	case *array.Date64:
		values := col.Date64Values()
		return quoted(s, func(dst []byte, row int) []byte {
			days, _ := divide(int64(values[row]), 86_400_000)
			return appendDate(dst, days)
		})
	case *array.Time32:
		values, second := col.Time32Values(), perSecond(col.DataType())
		return quoted(s, func(dst []byte, row int) []byte { return appendClock(dst, int64(values[row]), second) })
	case *array.Time64:
		values, second := col.Time64Values(), perSecond(col.DataType())
		return quoted(s, func(dst []byte, row int) []byte { return appendClock(dst, int64(values[row]), second) })
	case *array.Timestamp:
		return quoted(s, bindTimestamp(col))
	case *array.Duration:
		values, second := col.DurationValues(), perSecond(col.DataType())
		return quoted(s, func(dst []byte, row int) []byte { return appendInterval(dst, 0, 0, int64(values[row]), second) })
	case *array.MonthInterval:
		values := col.MonthIntervalValues()
		return quoted(s, func(dst []byte, row int) []byte { return appendInterval(dst, int64(values[row]), 0, 0, 1_000_000_000) })
	case *array.DayTimeInterval:
		values := col.DayTimeIntervalValues()
		return quoted(s, func(dst []byte, row int) []byte {
			return appendInterval(dst, 0, int64(values[row].Days), int64(values[row].Milliseconds), 1000)
		})
	case *array.MonthDayNanoInterval:
		values := col.MonthDayNanoIntervalValues()
		return quoted(s, func(dst []byte, row int) []byte {
			v := values[row]
			return appendInterval(dst, int64(v.Months), int64(v.Days), v.Nanoseconds, 1_000_000_000)
		})
	}
	return nil
}

// quoted puts the text into quotes where it stands in JSON; it holds nothing that needs an escape.
func quoted(s style, f appender) appender {
	if s != styleJSON {
		return f
	}
	return func(dst []byte, row int) []byte { return append(f(append(dst, '"'), row), '"') }
}

func bindTimestamp(col *array.Timestamp) appender {
	values, second := col.TimestampValues(), perSecond(col.DataType())
	zone := ""
	if t, ok := col.DataType().(*arrow.TimestampType); ok && t.TimeZone != "" {
		zone = "Z" // whatever zone the column names, its values are times in UTC
	}
	return func(dst []byte, row int) []byte {
		v := int64(values[row])
		if word := infinite(v, math.MaxInt64); word != "" {
			return append(dst, word...)
		}
		days, rest := divide(v, 86_400*second)
		return append(appendClock(append(appendDate(dst, days), 'T'), rest, second), zone...)
	}
}

// infinite is the word for DuckDB's infinite times: the greatest number, and the same with a sign.
func infinite(v, greatest int64) string {
	switch v {
	case greatest:
		return "infinity"
	case -greatest:
		return "-infinity"
	}
	return ""
}

// perSecond is how many units of a type of time make a second.
func perSecond(t arrow.DataType) int64 {
	u, ok := t.(arrow.TemporalWithUnit)
	if !ok {
		return 1
	}
	switch u.TimeUnit() {
	case arrow.Millisecond:
		return 1000
	case arrow.Microsecond:
		return 1_000_000
	case arrow.Nanosecond:
		return 1_000_000_000
	case arrow.Second:
	}
	return 1
}

// divide rounds down, so that what is left is never negative.
func divide(v, by int64) (quotient, rest int64) {
	quotient, rest = v/by, v%by
	if rest < 0 {
		quotient, rest = quotient-1, rest+by
	}
	return quotient, rest
}

// appendDate writes a day of the proleptic Gregorian calendar, counted from 1970-01-01. Package time would do for the years that
// people use; DuckDB's reach further.
func appendDate(dst []byte, days int64) []byte {
	// The year begins in March, so that the leap day is its last; an era has 400 years.
	era, day := divide(days+719_468, 146_097)
	year := (day - day/1460 + day/36_524 - day/146_096) / 365
	day -= 365*year + year/4 - year/100
	month := (5*day + 2) / 153
	day -= (153*month + 2) / 5
	year += 400 * era
	if month < 10 {
		month += 3
	} else {
		month -= 9
		year++
	}
	switch {
	case year < 0:
		dst = append(dst, '-')
		year = -year
	case year > 9999:
		dst = append(dst, '+')
	}
	dst = appendPadded(dst, year, 4)
	dst = appendPadded(append(dst, '-'), month, 2)
	return appendPadded(append(dst, '-'), day+1, 2)
}

// appendClock writes a time of the day: six digits behind the point, nine when the unit is the nanosecond.
func appendClock(dst []byte, v, second int64) []byte {
	seconds, rest := divide(v, second)
	dst = appendPadded(dst, seconds/3600, 2)
	dst = appendPadded(append(dst, ':'), seconds/60%60, 2)
	dst = appendPadded(append(dst, ':'), seconds%60, 2)
	dst = append(dst, '.')
	if second == 1_000_000_000 {
		return appendPadded(dst, rest, 9)
	}
	return appendPadded(dst, rest*(1_000_000/second), 6)
}

// appendPadded writes v >= 0 with at least width digits.
func appendPadded(dst []byte, v int64, width int) []byte {
	var digits [20]byte
	at := len(digits)
	for v > 0 || len(digits)-at < width {
		at--
		digits[at] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, digits[at:]...)
}

// appendInterval writes an interval as DuckDB does: parts that are 0 are left out, but for an interval that is nothing else.
func appendInterval(dst []byte, months, days, units, second int64) []byte {
	begin := len(dst)
	part := func(n int64, unit string) {
		if n == 0 {
			return
		}
		if len(dst) > begin {
			dst = append(dst, ' ')
		}
		dst = append(append(strconv.AppendInt(dst, n, 10), ' '), unit...)
		if n != 1 && n != -1 {
			dst = append(dst, 's')
		}
	}
	part(months/12, "year")
	part(months%12, "month")
	part(days, "day")
	if units == 0 && len(dst) > begin {
		return dst
	}
	if len(dst) > begin {
		dst = append(dst, ' ')
	}
	if units < 0 {
		dst = append(dst, '-')
	}
	// Below, units are taken as negative: the least of them has no positive.
	if units > 0 {
		units = -units
	}
	seconds, rest := -(units / second), -(units % second)
	dst = appendPadded(dst, seconds/3600, 2)
	dst = appendPadded(append(dst, ':'), seconds/60%60, 2)
	dst = appendPadded(append(dst, ':'), seconds%60, 2)
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	if second == 1_000_000_000 && rest%1000 != 0 {
		return appendPadded(dst, rest, 9)
	}
	if second == 1_000_000_000 {
		return appendPadded(dst, rest/1000, 6)
	}
	return appendPadded(dst, rest*(1_000_000/second), 6)
}
