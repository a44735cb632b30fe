package sandbox

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzCheck changes recorded trees and texts. Nothing panics, and what passes has only what the lists have, as a plain search of the JSON sees it.
func FuzzCheck(f *testing.F) {
	all := recorded(f)
	for i := range all {
		f.Add(i, 0, 0, "", 0)
		f.Add(i, i*7, i%6, "function_name", i)
		f.Add(i, i*13, (i+3)%6, "getenv", i*5)
	}
	f.Fuzz(func(t *testing.T, which, object, change int, word string, cut int) {
		r := all[abs(which)%len(all)]
		top := decode(t, r.tree)
		nodes := objects(top)
		o := nodes[abs(object)%len(nodes)]
		names := sortedKeys(o)
		if len(names) == 0 {
			return
		}
		name := names[abs(object/len(nodes))%len(names)]
		switch abs(change) % 6 {
		case 0: // as it is
		case 1:
			o[name] = word
		case 2:
			o[word] = o[name]
		case 3:
			o[name] = decode(t, string(encode(t, nodes[abs(cut)%len(nodes)]))) // a copy of another part of the tree, maybe one around this one
		case 4:
			delete(o, name)
		case 5:
			o[name] = []any{o[name], word, json.Number("1")}
		}
		sql := r.sql
		if cut > 0 && abs(change)%2 == 0 {
			at := cut % (len(sql) + 1)
			sql = sql[:at] + word + sql[at:]
		}
		_, _, _, _ = Strip(sql)
		tree := encode(t, top)
		s, err := Check(sql, tree)
		if err != nil {
			if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Position > len(sql) || refusal.Message == "" {
				t.Fatalf("%#v is no proper refusal", err)
			}
			return
		}
		mustBeListed(t, decode(t, string(tree)))
		last := 0
		for _, reference := range s.References {
			if reference.Start < last || reference.End <= reference.Start || reference.End > len(sql) {
				t.Fatalf("%q refers to %+v", sql, s.References)
			}
			last = reference.End
		}
		text, back := s.Rewrite(sql, func(int, Reference) string { return "f(0)" })
		for i, last := 0, 0; i <= len(text); i++ {
			at := back(i)
			if at < last || at > len(sql) {
				t.Fatalf("%q: back(%d) is %d after %d", text, i, at, last)
			}
			last = at
		}
	})
}

func abs(n int) int { return max(n, -n, 0) }

// mustBeListed is the dumb twin of the walk: it knows no shapes, only words.
func mustBeListed(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case node:
		if class, ok := v["class"].(string); ok && expressionShapes[class] == nil {
			t.Fatalf("class %s passes", class)
		}
		if name, ok := v["function_name"].(string); ok && !allowedFunctions[fold(name)] && !tableFunctions[fold(name)] {
			t.Fatalf("function %s passes", name)
		}
		if kind, ok := v["type"].(string); ok && strings.HasSuffix(kind, "_NODE") && queryShapes[kind] == nil {
			t.Fatalf("query %s passes", kind)
		}
		if _, isTable := v["sample"]; isTable && v["class"] == nil {
			if kind, ok := v["type"].(string); ok && tableShapes[kind] == nil && queryShapes[kind] == nil {
				t.Fatalf("table %s passes", kind)
			}
		}
		if catalog, ok := v["catalog_name"].(string); ok && catalog != "" {
			t.Fatalf("catalog %s passes", catalog)
		}
		for _, e := range v {
			mustBeListed(t, e)
		}
	case []any:
		for _, e := range v {
			mustBeListed(t, e)
		}
	}
}
