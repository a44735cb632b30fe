// Package column decides which columns a topic has, and turns its records into Arrow.
//
// # The principle
//
// What a typed column holds in a row depends on two things only: the bytes of the row and the version of the schema that the query reads under. It
// never depends on when, where, or under which earlier version the row was decoded. So a node may keep rows decoded under an old version and read
// them through a Mapping, another may decode them anew, and both give the same; Fits says when the first is allowed.
//
// # From records to columns
//
// Rows gathers the records of a partition, and gives a Raw: the columns that every topic has. Shred decodes their values under a Schema, and gives
// a Chunk with all columns, and a Discovery of what the schema lacks. Whoever gets one extends the schema, agrees on it with the other nodes by
// compare-and-swap, and shreds again. All arrays are whole (no slices, offset 0), have bits for NULLs only when they have NULLs, and take their
// memory from the allocator that was handed in.
//
// The texts `_key` and `_value` share the memory of `_key_bytes` and `_value_bytes`, and are NULL where these are not UTF-8. `_timestamp` is NULL
// where the record has none (-1) or one beyond 290,000 years. `_headers` is never NULL.
//
// # Which values are decoded
//
// Those that are UTF-8 and, by RFC 8259, an object, with white space around it or not. Brackets that nest deeper than 512 are no JSON. All typed
// columns of any other row are NULL. So are those of a row whose lists would have more than 16,384 entries in Arrow and also more than four for
// each byte of the document: a LIST of STRUCTs has an entry for every field of every element, and a short document could take all memory.
// For the same reason a chunk ends with the row with which its lists have more than 1,048,576 entries, so that many short documents cannot either.
//
// Of duplicate keys the first wins, at each level. Half of a surrogate pair (\ud800) becomes U+FFFD, as in encoding/json; NULs stay.
//
// # Types
//
//	a string                              VARCHAR
//	true, false                           BOOLEAN
//	an integer that is an int64           BIGINT; -0 is 0
//	a number with '.', 'e' or 'E'         DOUBLE
//	an integer that is no int64           DOUBLE where it defines a column or an element
//	a number whose double is infinite     defines nothing
//	an object                             STRUCT of what its members define
//	an array                              LIST of what its elements define together
//	null                                  fits everything, is NULL, defines nothing
//
// An object or array in which nothing defines a type defines nothing itself: {}, [], [null], {"a":[]}. Where there is a type, {} is a STRUCT of
// NULLs and [] an empty LIST.
//
// The elements of an array that defines a LIST are unified; those that define nothing do not count. BIGINT and DOUBLE are DOUBLE. STRUCTs are the
// union of their fields in the order in which they appear, where the first type of a field stands. LISTs are the LIST of their elements unified.
// Any other mix is JSON: the text of each element exactly as it stands in the document.
//
// # The first type stands
//
// A BIGINT becomes a DOUBLE when a finite number with '.', 'e' or 'E' comes, also within LISTs and STRUCTs; a query sees integers above 2^53 rounded
// then. Nothing else ever changes a type. A value of another type is a misfit: NULL at the smallest place where it stands (the column, the field of
// the STRUCT, the element of the LIST), whole in `_value`, and counted once for its row and column. An integer is no misfit of a DOUBLE; one that is
// no int64 is a misfit of a BIGINT; a number whose double is infinite is one of both.
//
// The rows of a chunk count in the order of their offsets, and a document in the order of its bytes.
//
// # Names and limits
//
// A column is named as its key, unless that equals, ignoring the case of ASCII letters, one of the `_` columns or an earlier column of its level:
// then the first of the suffixes _1, _2, … that is free follows. STRUCTs have no `_` columns of their own. Keys that are empty, longer than 256
// bytes, or have a NUL never become columns. A topic has at most 1,000 named fields at all levels together, and types are at most 16 deep: a column
// is at depth 1, and the fields of a STRUCT and the elements of a LIST are one deeper than it. What has no room stays in `_value`.
//
// # Overrides
//
// A topic's setting column.<key> chooses the type of a column at the top: BOOLEAN, BIGINT, DOUBLE, VARCHAR or JSON. Such a BIGINT does not widen; such
// a VARCHAR also takes values that are no strings, as their JSON text; JSON takes everything but null as its text, strings with their quotes. The
// column is made when it is not there, beyond the limit of 1,000 if need be. When the setting goes, the type stays.
//
// # Deferred chunks
//
// A chunk is deferred when a later version of its schema may give a value of it a place that it has not now: something that is not null stands
// where the schema has no type yet and has room for one, or an integer that is no int64 in a BIGINT that may widen, or a list of so many objects
// that with more fields it could exceed the limit above. Fits is false for it with every other version: it is decoded again.
// What is in no such place, because the schema is full, or the key or the depth is not allowed, defers nothing.
//
// # Why jsontext
//
// Libraries were measured on the demo's orders (235 B each), from the document into the builders of this package, in thousands of records for each
// second of processor time (amd64, both cores busy with other work; three runs, median):
//
//	jsonparser v1.6.1                    642
//	sonic v1.15.5, ast.Preorder          550
//	jsontext v1.27.2                     543
//	fastjson v1.6.10                     471
//	fastjson with ValidateBytes          307
//	encoding/json into any               77
//
// Documents are read with jsontext because of these it alone refuses everything that is no JSON: it takes what encoding/json takes, and costs a
// seventh of it. The Go team keeps it, and it becomes part of Go's own library. It hands out tokens one by one, so that they go straight into the
// builders as the bytes that they are, and one decoder reads document after document where it lies, without a copy and without an allocation.
//
// Sonic's visitor takes control characters in strings and anything behind the document, and on amd64 sonic rests on machine code that is fitted to
// each release of Go. Fastjson takes 01, +1, 1. and NaN unless it reads the document a second time. Jsonparser also takes [1 2] and {"a":1,}.
//
// A fuzz test holds the reading against encoding/json, and random documents hold the whole package against a dumb twin.
package column
