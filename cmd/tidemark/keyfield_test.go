package main

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyField(t *testing.T) {
	for _, c := range []struct{ line, field, want string }{
		{`{"ip":"1.2.3.4","n":1}`, "ip", "1.2.3.4"},
		{`{"ip":"1.2.3.4","n":1}`, "n", "1"},
		{` { "a" : -1.50e3 , "b":[1, {"a":2}] } `, "a", "-1.50e3"},
		{`{"b":[1, {"a":"]}"}],"a":true}`, "b", `[1, {"a":"]}"}]`},
		{`{"b":[1, {"a":"]}"}],"a":true}`, "a", "true"},
		{`{"a":{"a":"inner"}}`, "a", `{"a":"inner"}`},
		{`{"x":"\"a\":1","a":"y"}`, "a", "y"},
		{`{"a":"tab\tA\ud83d\ude00"}`, "a", "tab\tA😀"},
		{`{"\u0061":"escaped name"}`, "a", "escaped name"},
		{`{"a":""}`, "a", ""},
		{`{"":"empty name"}`, "", "empty name"},
		{`{"a":1,"a":2}`, "a", "2"},
		{`{"a":1,"a":null}`, "a", "-"},
		{`{"a":null}`, "a", "-"},
		{`{"b":1}`, "a", "-"},
		{`{}`, "a", "-"},
		{``, "a", "-"},
		{`"a"`, "a", "-"},
		{`["a"]`, "a", "-"},
		{`{"a":1`, "a", "-"},
		{`{"a":1}x`, "a", "-"},
		{`{"a":01}`, "a", "-"},
		{"{\"a\":\"\xff\"}", "a", "\xff"},
	} {
		if got := show(keyField([]byte(c.line), c.field)); got != c.want {
			t.Errorf("%s of %s: got %q, want %q", c.field, c.line, got, c.want)
		}
	}
}

// keyField agrees with encoding/json on any object.
func TestKeyFieldAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.MapOfN(rapid.String(), rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.Int(), func(n int) any { return n }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.MapOfN(rapid.String(), rapid.String(), 0, 3), func(m map[string]string) any { return m }),
			rapid.Map(rapid.SliceOfN(rapid.String(), 0, 3), func(s []string) any { return append([]string{}, s...) }),
		), 0, 6).Draw(t, "object")
		line, err := json.MarshalIndent(object, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(line, &members); err != nil {
			t.Fatal(err)
		}
		for name, raw := range members {
			want := string(raw)
			if s, ok := object[name].(string); ok {
				want = s
			}
			if got := string(keyField(line, name)); got != want {
				t.Fatalf("%q of %s: got %q, want %q", name, line, got, want)
			}
		}
	})
}

func FuzzKeyField(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"\\\""}], "c" : null}`), "c")
	f.Fuzz(func(_ *testing.T, line []byte, field string) { keyField(line, field) })
}

func BenchmarkKeyField(b *testing.B) {
	line := []byte(`{"time":"2015-05-17T10:05:03Z","method":"GET","path":"/images/kibana-search.png","status":200,"bytes":203023,"agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1)","ip":"83.149.9.216"}`)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if keyField(line, "ip") == nil {
			b.Fatal("no key")
		}
	}
}
