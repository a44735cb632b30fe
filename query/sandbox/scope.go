package sandbox

// scope is a name that WITH defines, as a query sees it: a chain of names from the innermost outwards. A name is one of these before it is
// a table. Names are folded. A nil scope has no names.
type scope struct {
	outer *scope
	name  string
	// keyed is a recursive query USING KEY, whose whole table is seen as recurring.name.
	keyed bool
}

// find returns the innermost definition of a name, nil when it is a table.
func (s *scope) find(name string) *scope {
	for ; s != nil; s = s.outer {
		if s.name == name {
			return s
		}
	}
	return nil
}

// ctes walks the WITH of a query, each of its queries in the scope of those before it, and leaves their names in scope.
func (w *walker) ctes(n node) *Refusal {
	m, ok := n["cte_map"].(node)
	if !ok {
		return w.unknown("WITH of another form")
	}
	list, ok := m["map"].([]any)
	if !ok || len(m) != 1 {
		return w.unknown("WITH of another form")
	}
	for _, entry := range list {
		e, _ := entry.(node)
		name, isText := e["key"].(string)
		value, isNode := e["value"].(node)
		if !isText || !isNode || len(e) != 2 {
			return w.unknown("WITH of another form")
		}
		if r := w.walk("WITH", value, cteShape); r != nil {
			return r
		}
		w.scope = &scope{outer: w.scope, name: fold(name)}
	}
	return nil
}
