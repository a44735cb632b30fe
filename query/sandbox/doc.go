// Package sandbox decides which SQL may run, and finds the tables that it refers to.
//
// # What it does
//
// A text goes through five steps, the third of which is the engine's:
//
//	kind, body, offset, err := sandbox.Strip(sql)   // takes EXPLAIN off
//	err = sandbox.Precheck(body)                    // sizes that the engine's parser cannot bear
//	ast := ...                                      // DuckDB's json_serialize_sql of exactly that body
//	statement, err := sandbox.Check(body, ast)      // what is refused, and where the tables are
//	text, back := statement.Rewrite(body, call)     // tables become calls of a table function
//
// Every error is a *Refusal, with a reason to tell refusals apart by, a sentence for who wrote the SQL, and a place.
//
// # How it decides
//
// Everything is an allow-list, and the walk is total: each kind of node of the syntax tree names all of its fields and what each
// holds (tree.go), and a kind, a field or a word that is not listed is refused by name. So what a later DuckDB adds is refused until
// someone has looked at it. Functions are listed one by one, in functions.txt; denied.txt has the others with a reason, and a test
// compares both with the engine's own catalog, so that an upgrade cannot add a function that nobody has looked at. The engine has names for
// things that are not in its catalog (DuckDB's WINDOW nodes, operators such as COALESCE): those are listed in tree.go.
//
// A table is a name that no WITH of the same scope defines. It is not looked up here: whoever calls Rewrite resolves every Reference,
// or refuses it. Where a reference stands in the text is DuckDB's word (query_location), checked against the text: the name that
// is found there must be the tree's name, and nothing is guessed.
//
// # What it rests on
//
// The tree is that of the text. Where DuckDB executes another text than the one it was asked to parse, or the rewritten text means something
// else than the tree, the engine's own locks are what is left: no external access, no extensions, a locked configuration, limits of
// memory and time. They also stop what is allowed here and costs too much: cross joins, endless recursion, repeat('x', 10^10).
//
// # Limits
//
// DuckDB's parser does not crash on deep or long texts: its stack of productions is bounded, and so is the depth of expressions. It is
// slow, in the square of the length, on nested comments (40 KB take a second) and on long chains of AND and OR (10,000 take 0.2 s,
// 60,000 take 6 s). Its planner is slow in the cube of an expression's depth, on many joins and on many OR, and doubles with each subquery inside an
// expression. Precheck and Check bound each of these (limits.go) to about a second. A statement may have several of them: whoever runs it bounds its time.
package sandbox
