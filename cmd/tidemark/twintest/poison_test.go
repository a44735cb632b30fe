//go:build cgo

package twintest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/record"
)

// around puts brackets around a value, again and again.
func around(opening, inner, closing string, n int) string {
	return strings.Repeat(opening, n) + inner + strings.Repeat(closing, n)
}

func manyFields(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"f%d":%d`, i, i)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// poison is what senders send.
func poison() []string {
	return []string{
		"", " ", "null", "1", `"x"`, "[]", `[{"a":1}]`, "{}", " {} ", "{", "}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{"a":1}x`, `{"a":1} {"b":2}`,
		"{\"a\":1}\x00", "\xef\xbb\xbf{\"a\":1}", `{'a':1}`, `{a:1}`, `{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":1e+}`, `{"a":-}`, `{"a":0x1}`,
		`{"a":NaN}`, `{"a":Infinity}`, `{"a":tru}`, `{"a":truex}`, `{"a":nul}`, `{"a":True}`, `{"a":1 2}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":{"b":1]}`,
		"{\"a\":\"\n\"}", "{\"a\":\"\x1f\"}", "{\"a\":\"\x7f\"}", "{\"a\x01\":1}", `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, `{"a":"\"}`, `{"a":"x`,
		"{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"\xff\":1}", "{\"a\":1,\"b\":\"\xf4\x90\x80\x80\"}",
		`{"a":"\ud800"}`, `{"a":"\ud800\ud800\udc00"}`, `{"a":"\udc00\ud800"}`, `{"a":"\ud800\u0041"}`, `{"a":"\ud83d\ude00"}`, `{"\ud800":1,"\ud801":2}`,
		`{"a":"\u0000","b\u0000":1}`, `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, `{"a":"` + strings.Repeat(`\u0041`, 1<<16) + `"}`,
		`{"` + strings.Repeat("k", 257) + `":1,"` + strings.Repeat("k", 256) + `":2}`,
		`{"a":9223372036854775807,"b":-9223372036854775808}`, `{"a":9223372036854775808,"b":-9223372036854775809}`, `{"a":1e400,"b":-1e400}`, `{"a":1` + strings.Repeat("0", 400) + `}`,
		`{"a":1e-400,"b":-0,"c":-0.0,"d":0e0}`, `{"a":0.` + strings.Repeat("1", 2000) + `}`, `{"a":12345678901234567890123}`, `{"a":1E5,"b":1e-5,"c":1E+5}`,
		`{"a":1,"a":2}`, `{"a":null,"a":2}`, `{"a":"x","a":2}`, `{"new":null,"new":2}`, `{"new2":{},"new2":2}`, `{"a":{"x":1,"x":"s"}}`, `{"a":1,"A":2,"_value":3,"_VALUE":4,"_offset":5}`,
		`{"a":[1,2.5]}`, `{"a":[1,"x"]}`, `{"m":[1, "x" ,null,[ 1 ],{"k": 1}]}`, `{"n":[[1],["x"]]}`, `{"o":[[1],[[2]]]}`, `{"p":[{"x":[1]},{"x":["s"]},{"x":[2.5]}]}`, `{"q":[1,[],{}]}`,
		`{"r":[[],{},null]}`, `{"s":[{"a":1},{"b":"x"},5]}`, `{"t":[{"a":1e400}]}`, `{"u":[true,null,false]}`, `{"v":[[[]],[[1]]]}`, `{"w":{"x":{"y":{}}}}`,
		`{"deep":` + around("[", "1", "]", 100) + `}`, `{"deep":` + around("[", "1", "]", 511) + `}`, `{"deep":` + around("[", "1", "]", 512) + `}`, `{"deep":` + around("[", "1", "]", 600) + `}`,
		around(`{"d":`, "1", "}", 100), around(`{"d":`, "1", "}", 512), around(`{"d":`, "1", "}", 513), around("[", "", "", 100_000), around(`{"a":`, "", "", 100_000),
		`{"l16":` + around("[", "1", "]", 15) + `,"l17":` + around("[", "1", "]", 16) + `}`, `{"mixed":` + around(`[{"m":`, "1", "}]", 20) + `}`,
		`{"select":1,"a b":"c","a\"b":2,"a'b":3,"":4,"\\":5,"😀":{"😀":1},"ORDER":6,"order":7,"%s":8,"tab\tnew\n":9}`, `{"wide":` + manyFields(300) + `}`,
	}
}

// Whatever is in a topic: the query for everything, every aggregate of every column, and SUMMARIZE never fail, every value comes back byte for
// byte, and the columns are the twin's.
func TestPoison(t *testing.T) {
	r := newRun(t, 0)
	r.create("poison", 1, map[string]string{"max.message.bytes": "4194304"})
	producer, err := r.client.NewProducer(client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	texts := poison()
	var sent []record.Record
	stamps := []int64{-1, 1, math.MinInt64, math.MaxInt64, 290_000 * 31_556_952_000, -290_000 * 31_556_952_000, 290_000*31_556_952_000 + 1, 1_700_000_000_000}
	send := func(value []byte) {
		n := len(sent)
		rec := record.Record{Timestamp: stamps[n%len(stamps)], Value: value}
		if n%3 > 0 {
			rec.Key = []byte(texts[n%50])
		}
		if n%4 == 0 {
			rec.Headers = []record.Header{{Key: "\u0000é", Value: []byte(texts[n%60])}, {Key: ""}}
		}
		sent = append(sent, rec)
		if _, err := producer.ProduceSync(t.Context(), "poison", rec); err != nil {
			t.Fatalf("produce %.100q at %d: %v", value, rec.Timestamp, err)
		}
	}
	for _, text := range texts {
		send([]byte(text))
	}
	send(nil)
	for i := range texts {
		send([]byte(texts[len(texts)-1-i]))
	}
	if err := producer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sameBytes(sent)
	for _, s := range []string{
		"SELECT * FROM poison ORDER BY _offset", "SELECT * EXCLUDE (_value, _value_bytes, wide), _timestamp AT TIME ZONE 'Asia/Tokyo' FROM poison WHERE abs(epoch(_timestamp)) < 1e10 ORDER BY _offset",
		"SELECT _offset, length(_value), octet_length(_value_bytes), md5(_value_bytes::VARCHAR), md5(_value) FROM poison ORDER BY _offset",
	} {
		_, position, diff := r.compareThat(func([]table) statement { return statement{sql: s, how: how{ordered: true, bits: true}} })
		if diff != "" {
			t.Errorf("%s\nat %v: %.5000s", s, position, diff)
		}
	}
	tables, err := r.client.ListTables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asked := []string{"SUMMARIZE poison", "SUMMARIZE SELECT * FROM poison", "DESCRIBE poison"}
	for _, c := range tables[0].GetColumns() {
		x := quoted(c.GetName())
		asked = append(asked, fmt.Sprintf("SELECT count(%s), count(DISTINCT %s), min(%s), max(%s), list(%s ORDER BY _offset)[1:3], any_value(%s), count(*) FILTER (WHERE %s IS NULL), max(%s::VARCHAR) FROM poison", x, x, x, x, x, x, x, x))
	}
	for _, s := range asked {
		if a, _, err := r.ask(s); err != nil || len(a.rows) == 0 {
			t.Errorf("%s: %d rows, %v", s, len(a.rows), err)
		}
	}
	for _, format := range []string{"ndjson", "csv"} {
		r.plain(format, len(sent))
	}
	t.Logf("%d values, %d columns", len(sent), len(tables[0].GetColumns()))
}

// sameBytes checks that keys, values and headers come back as they were sent.
func (r *run) sameBytes(sent []record.Record) {
	r.t.Helper()
	rows, err := r.client.Query(r.t.Context(), "SELECT _offset, _key_bytes, _value_bytes, _value FROM poison ORDER BY _offset", client.QueryOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	same := func(a *array.Binary, i int, want []byte) bool {
		return a.IsNull(i) == (want == nil) && (want == nil || bytes.Equal(a.Value(i), want))
	}
	n := 0
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			if !same(rec.Column(1).(*array.Binary), i, sent[n].Key) || !same(rec.Column(2).(*array.Binary), i, sent[n].Value) {
				r.t.Errorf("record %d is not what was sent: %.200q", n, sent[n].Value)
			}
			if text := rec.Column(3).(*array.String); text.IsValid(i) && text.Value(i) != string(sent[n].Value) {
				r.t.Errorf("_value of record %d is not what was sent: %.200q", n, sent[n].Value)
			}
			n++
		}
		rec.Release()
	}
	if n != len(sent) {
		r.t.Errorf("%d records of %d", n, len(sent))
	}
}

// plain asks for everything over HTTP.
func (r *run) plain(format string, rows int) {
	r.t.Helper()
	answer, err := http.Post(r.process.url()+"/v1/sql?format="+format, "application/sql", strings.NewReader("SELECT * FROM poison"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s", format, answer.Status)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatalf("%s: %v", format, err)
	}
	if format != "ndjson" {
		return
	}
	lines := 0
	scanner := bufio.NewScanner(bytes.NewReader(body))
	scanner.Buffer(nil, 64<<20)
	for ; scanner.Scan(); lines++ {
		if !json.Valid(scanner.Bytes()) {
			r.t.Errorf("line %d is no JSON: %.200q", lines, scanner.Bytes())
		}
	}
	if lines != rows {
		r.t.Errorf("%d lines for %d records", lines, rows)
	}
}
