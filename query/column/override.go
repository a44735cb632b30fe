package column

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// overrideTypes are the types that a setting may choose.
var overrideTypes = map[string]Kind{"BOOLEAN": Boolean, "BIGINT": BigInt, "DOUBLE": Double, "VARCHAR": Varchar, "JSON": JSON}

// Overrides reads the types that a topic's settings choose, by the JSON keys of the columns. The case of their letters does not matter.
func Overrides(settings map[string]string) (map[string]Type, error) {
	out := make(map[string]Type, len(settings))
	for key, name := range settings {
		kind, known := overrideTypes[strings.ToUpper(name)]
		if !known || !validKey(key) {
			return nil, fmt.Errorf("column %q cannot be %q: the types are BOOLEAN, BIGINT, DOUBLE, VARCHAR and JSON", key, name)
		}
		out[key] = Type{Kind: kind}
	}
	return out, nil
}

// Override gives columns the types that settings choose, by their keys, and makes those that are not there yet. Columns that a setting chose
// before and none chooses now keep their type and follow their values again. It is s itself when nothing changes.
// Types that Overrides does not give, and what is above MaxOverrides in the order of the keys, are ignored.
func (s *Schema) Override(types map[string]Type) *Schema {
	fields, changed := slices.Clone(s.Fields), false
	rest := make(map[string]Type, len(types))
	for _, key := range slices.Sorted(maps.Keys(types)) {
		if kind := types[key].Kind; validKey(key) && kind >= Boolean && kind <= JSON && len(rest) < MaxOverrides {
			rest[key] = Type{Kind: kind}
		}
	}
	made := 0 // columns that were made by settings and never seen
	for i := range fields {
		f := &fields[i]
		t, chosen := rest[f.Key]
		delete(rest, f.Key)
		switch {
		case chosen && (!f.Overridden || f.Type.Kind != t.Kind):
			f.Type, f.Overridden, changed = t, true, true
		case !chosen && f.Overridden:
			f.Overridden, changed = false, true
		}
		if f.Partition < 0 {
			made++
		}
	}
	free := newNames(true)
	for _, f := range fields {
		free.take(f.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		if made == MaxOverrides {
			break
		}
		made++
		name := free.give(key)
		fields = append(fields, Field{Key: key, Name: name, Type: rest[key], Partition: -1, Offset: -1, Overridden: true})
		changed = true
	}
	if !changed {
		return s
	}
	return newSchema(s.Version+1, fields)
}
