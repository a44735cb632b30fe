package sandbox

// dataType walks a type, and those that it is made of.
func (w *walker) dataType(n node) *Refusal {
	if w.types++; w.types > maxTypeDepth {
		return refuse(TooLarge, -1, "", "Types are nested more than %d deep.", maxTypeDepth)
	}
	defer func() { w.types-- }()
	id, ok := n["id"].(string)
	if !ok || !typeNames[id] {
		return w.unknown("a type %s", id)
	}
	info, ok := n["type_info"]
	if !ok || len(n) != 2 {
		return w.unknown("a type %s of another form", id)
	}
	if info == nil {
		return nil
	}
	if r := w.count(); r != nil {
		return r
	}
	in, ok := info.(node)
	kind, _ := in["type"].(string)
	s, known := typeShapes[kind]
	if !ok || !known {
		return w.unknown("a type %s with %s", id, kind)
	}
	if schema, _ := in["schema"].(string); schema != "" {
		return refuse(Unsupported, -1, "", "Types have no schema here, and %s.%v is written with one.", shown(schema), in["name"])
	}
	return w.walk("a type "+id, in, s)
}

// constant walks a value, or a list of values.
func (w *walker) constant(value any) *Refusal {
	if w.types++; w.types > maxTypeDepth {
		return refuse(TooLarge, -1, "", "Constants are nested more than %d deep.", maxTypeDepth)
	}
	defer func() { w.types-- }()
	if list, ok := value.([]any); ok {
		for _, v := range list {
			if r := w.count(); r != nil {
				return r
			}
			if r := w.constant(v); r != nil {
				return r
			}
		}
		return nil
	}
	n, ok := value.(node)
	if !ok {
		return w.unknown("a constant of another form")
	}
	t, ok := n["type"].(node)
	if !ok {
		return w.unknown("a constant without a type")
	}
	if r := w.dataType(t); r != nil {
		return r
	}
	null, ok := n["is_null"].(bool)
	content, has := n["value"]
	if !ok || has == null || has && len(n) != 3 || !has && len(n) != 2 {
		return w.unknown("a constant of another form")
	}
	in, ok := content.(node)
	if !ok {
		if _, list := content.([]any); list {
			return w.unknown("a constant of another form")
		}
		return nil
	}
	if children, ok := in["children"].([]any); ok && len(in) == 1 {
		return w.constant(children)
	}
	// The halves of a 128-bit number, or the parts of an interval.
	if r := w.walk("a constant", in, partsOf(in)); r != nil {
		return r
	}
	return nil
}

func partsOf(constant node) shape {
	if _, ok := constant["micros"]; ok {
		return intervalShape
	}
	return hugeShape
}
