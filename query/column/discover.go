package column

// Discovery is what some rows showed that a schema lacks: fields that are new, with their types, and BIGINTs that are DOUBLEs. It has no more than a
// schema may have. It is never changed once it was handed out.
type Discovery struct {
	shape *shape // the schema's fields and the new ones
}

// Empty tells whether there is nothing in it; a nil Discovery is empty.
func (d *Discovery) Empty() bool { return d == nil || d.shape == nil }

// shape is a Type that can grow.
type shape struct {
	kind   Kind
	fixed  bool // a setting chose it
	fields []*member
	index  map[string]*member
	elem   *shape
}

// member is a Field that can grow. Its name is empty until it is given one.
type member struct {
	Field

	shape *shape
}

func newShape(t Type) *shape {
	s := &shape{kind: t.Kind}
	if t.Kind == List {
		s.elem = newShape(*t.Elem)
	}
	for _, f := range t.Fields {
		m := &member{Field: f, shape: newShape(f.Type)}
		m.shape.fixed = f.Overridden
		s.add(m)
	}
	return s
}

func (s *shape) add(m *member) {
	if s.index == nil {
		s.index = make(map[string]*member)
	}
	s.fields = append(s.fields, m)
	s.index[m.Key] = m
}

// typ is the shape as a type, with names for what has none yet.
func (s *shape) typ(top bool) Type {
	t := Type{Kind: s.kind}
	if s.elem != nil {
		elem := s.elem.typ(false)
		t.Elem = &elem
	}
	free := newNames(top)
	for _, m := range s.fields {
		f := m.Field
		if f.Name == "" {
			f.Name = free.give(f.Key)
		} else {
			free.take(f.Name)
		}
		f.Type = m.shape.typ(false)
		t.Fields = append(t.Fields, f)
	}
	return t
}

// named counts the fields with names.
func (s *shape) named() int {
	if s == nil {
		return 0
	}
	n := s.elem.named()
	for _, m := range s.fields {
		n += 1 + m.shape.named()
	}
	return n
}

// Extend gives the schema that has besides what was discovered, in the order in which it was. Where two say different things about a field, the
// schema stands. It is s itself when there is nothing new, and else has the next version. Two that extend the same schema by the same
// discovery get the same.
func (s *Schema) Extend(d *Discovery) *Schema {
	if d.Empty() {
		return s
	}
	g := grower{shape: newShape(Type{Kind: Struct, Fields: s.Fields}), named: s.named}
	g.merge(g.shape, d.shape)
	if !g.changed {
		return s
	}
	return newSchema(s.Version+1, g.shape.typ(true).Fields)
}

// grower makes a schema grow within its limits.
type grower struct {
	shape   *shape
	named   int
	changed bool
}

// merge adds to one shape what another has besides. Neither is deeper than allowed, so what comes of them is not.
func (g *grower) merge(into, from *shape) {
	switch {
	case into.kind == BigInt && from.kind == Double && !into.fixed:
		into.kind, g.changed = Double, true
	case into.kind == List && from.kind == List:
		g.merge(into.elem, from.elem)
	case into.kind == Struct && from.kind == Struct:
		for _, f := range from.fields {
			if m := into.index[f.Key]; m != nil {
				g.merge(m.shape, f.shape)
			} else if m := g.copied(f); m != nil {
				into.add(m)
				g.changed = true
			}
		}
	}
}

// copied makes a member like another, or nil when there is no room for it.
func (g *grower) copied(from *member) *member {
	if g.named >= MaxFields {
		return nil
	}
	g.named++
	m := &member{Field: Field{Key: from.Key, Partition: from.Partition, Offset: from.Offset}, shape: g.copiedShape(from.shape)}
	if m.shape == nil {
		g.named--
		return nil
	}
	return m
}

func (g *grower) copiedShape(from *shape) *shape {
	out := &shape{kind: from.kind}
	switch from.kind {
	case List:
		if out.elem = g.copiedShape(from.elem); out.elem == nil {
			return nil
		}
	case Struct:
		for _, f := range from.fields {
			if m := g.copied(f); m != nil {
				out.add(m)
			}
		}
		if len(out.fields) == 0 {
			return nil
		}
	default:
	}
	return out
}

// maxStrangers is how many keys of one object that define nothing are remembered, so that the first of duplicates wins. What comes behind so
// many is not looked at.
const maxStrangers = 4096

// discoverer reads documents for what they define. They are known to be JSON, so it asks no method of the reader whether they are.
type discoverer struct {
	grower
	jsonReader

	partition int32
	offset    int64
}

func newDiscoverer(s *Schema) *discoverer {
	return &discoverer{grower: grower{shape: newShape(Type{Kind: Struct, Fields: s.Fields}), named: s.named}}
}

// document adds what a document defines.
func (d *discoverer) document(p []byte, partition int32, offset int64) {
	d.begin(p)
	d.partition, d.offset = partition, offset
	if token, _ := d.next(); kindOf(token) == '{' {
		d.object(d.shape, 1)
	}
}

// values calls each for the first tokens of the values in an object or array, whose opening bracket was read. In an array there are no keys.
func (d *discoverer) values(object bool, each func(key, token []byte)) {
	for {
		token, ok := d.next()
		if kind := kindOf(token); !ok || kind == '}' || kind == ']' {
			return
		}
		var key []byte
		if object {
			key = d.unquote(token)
			token, _ = d.next()
		}
		each(key, token)
	}
}

// object lets a STRUCT grow by an object. Its fields are at the depth given.
func (d *discoverer) object(s *shape, depth int) {
	seen := make(map[string]struct{})
	strangers := 0
	d.values(true, func(key, token []byte) {
		m := s.index[string(key)]
		_, twice := seen[string(key)]
		if twice || m == nil && (strangers == maxStrangers || !usable(key)) {
			d.skip(token)
			return
		}
		name := string(key)
		seen[name] = struct{}{}
		if m != nil {
			d.known(m.shape, token, depth)
			return
		}
		if d.named < MaxFields {
			d.named++
			if t := d.infer(token, depth); t != nil {
				s.add(&member{Field: Field{Key: name, Partition: d.partition, Offset: d.offset}, shape: t})
				d.changed = true
				return
			}
			d.named--
		} else {
			d.skip(token)
		}
		strangers++
	})
}

// known lets a shape grow by a value, whose first token was read. What does not fit is a misfit, and defines nothing.
func (d *discoverer) known(s *shape, token []byte, depth int) {
	kind := kindOf(token)
	switch {
	case kind == '{' && s.kind == Struct:
		d.object(s, depth+1)
	case kind == '[' && s.kind == List:
		d.values(false, func(_, token []byte) { d.known(s.elem, token, depth+1) })
	case s.kind == BigInt && !s.fixed && kind == '0':
		n := numberOf(token)
		if _, finite := n.float(); finite && !n.integer {
			s.kind, d.changed = Double, true
		}
	default:
		d.skip(token)
	}
}

// infer gives the shape that a value, whose first token was read, defines at a depth, nil for none.
func (d *discoverer) infer(token []byte, depth int) *shape {
	switch kind := kindOf(token); {
	case kind == '{' && depth < MaxDepth:
		s := &shape{kind: Struct}
		if d.object(s, depth+1); len(s.fields) > 0 {
			return s
		}
		return nil
	case kind == '[' && depth < MaxDepth:
		var elem *shape
		d.values(false, func(_, token []byte) { elem = d.unify(elem, token, depth+1) })
		if elem == nil {
			return nil
		}
		return &shape{kind: List, elem: elem}
	case kind == '"':
		return &shape{kind: Varchar}
	case kind == 't' || kind == 'f':
		return &shape{kind: Boolean}
	case kind == '0':
		n := numberOf(token)
		if n.exact {
			return &shape{kind: BigInt}
		}
		if _, finite := n.float(); finite {
			return &shape{kind: Double}
		}
		return nil
	default: // null, or too deep
		d.skip(token)
		return nil
	}
}

// unify gives what the elements of an array are: s is what those before this one are, nil while they define nothing.
func (d *discoverer) unify(s *shape, token []byte, depth int) *shape {
	kind := kindOf(token)
	switch {
	case s == nil:
		return d.infer(token, depth)
	case s.kind == JSON:
		d.skip(token)
		return s
	case kind == '{' && s.kind == Struct:
		d.object(s, depth+1)
		return s
	case kind == '[' && s.kind == List:
		d.values(false, func(_, token []byte) { s.elem = d.unify(s.elem, token, depth+1) })
		return s
	}
	other := d.infer(token, depth)
	switch {
	case other == nil || other.kind == s.kind:
		return s
	case s.kind == BigInt && other.kind == Double || s.kind == Double && other.kind == BigInt:
		s.kind = Double
		return s
	}
	d.named -= s.named() + other.named()
	return &shape{kind: JSON}
}
