// Package render turns Arrow records into text: JSON and CSV for programs, cells of a table for people.
//
// # JSON
//
// One object a line, its members in the order of the columns.
//
//	NULL                       null
//	BOOLEAN                    true, false
//	integers, HUGEINT          digits, all of them: a reader that takes numbers for doubles loses those above 2^53
//	DECIMAL                    digits with as many behind the point as its scale
//	DOUBLE, FLOAT              the fewest digits that read back as the same number; a whole number has ".0", which tells it
//	                           from an integer; "NaN", "Infinity" and "-Infinity" are strings
//	VARCHAR, ENUM, UUID        a string
//	BLOB                       base64
//	TIMESTAMPTZ                "2026-11-24T10:00:00.000000Z": RFC 3339 in UTC with microseconds
//	TIMESTAMP                  "2026-11-24T10:00:00.000000": the same without zone; TIMESTAMP_NS has nine digits
//	DATE, TIME                 "2026-11-24", "10:00:00.000000"
//	INTERVAL                   "1 year 2 months 3 days 04:05:06.000007", as DuckDB writes it
//	LIST, ARRAY                an array
//	STRUCT                     an object, its members in order
//	MAP                        an array of {"key":…,"value":…}, since keys need be no text and have an order
//	UNION                      its value
//
// Infinite dates and timestamps are "infinity" and "-infinity". Years before 1 and after 9999 have a sign, as in ISO 8601.
// Of members with one name, the second gets the suffix _1, the next _2, and so on. What is no UTF-8 is replaced by U+FFFD.
//
// # CSV
//
// As RFC 4180 quotes it, with a line of names first; lines end with a line feed. Values are those of JSON without the quotes of
// strings; lists, structs, maps are their JSON. NULL is an empty field, the empty string is "".
//
// # Guarantees
//
// Every type that DuckDB and Arrow's columnar format have is either written as above or refused by name at the first record:
// nothing is written as something that it is not. A writer holds one buffer of the text of one record, and writes it at once.
package render
