package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// drawMessage makes any record: binary, NULLs, empty parts, odd headers.
func drawMessage(t *rapid.T) message {
	blob := rapid.OneOf(
		rapid.Just([]byte(nil)),
		rapid.Just([]byte{}),
		rapid.SliceOfN(rapid.Byte(), 0, 40),
		rapid.SliceOfN(rapid.SampledFrom([]byte("0123456789 -%{}\\\n\t\x00\xff")), 0, 20),
		rapid.Map(rapid.StringN(0, 20, -1), func(s string) []byte { return []byte(s) }),
	)
	m := message{
		topic:     rapid.StringMatching(`[a-z0-9._-]{1,20}`).Draw(t, "topic"),
		partition: rapid.Int32Range(0, 10_000).Draw(t, "partition"),
		epoch:     rapid.Int32Range(1, 9).Draw(t, "epoch"),
		offset:    rapid.Int64Range(0, 1<<62).Draw(t, "offset"),
		timestamp: rapid.Int64Range(0, 1<<43).Draw(t, "timestamp"),
		key:       blob.Draw(t, "key"),
		value:     blob.Draw(t, "value"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		m.headers = append(m.headers, messageHeader{key: rapid.String().Draw(t, "header key"), value: blob.Draw(t, "header value")})
	}
	return m
}

func sameBlob(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func checkSame(t *rapid.T, got, want message) {
	t.Helper()
	if !sameBlob(got.key, want.key) || !sameBlob(got.value, want.value) || len(got.headers) != len(want.headers) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i, h := range got.headers {
		if h.key != want.headers[i].key || !sameBlob(h.value, want.headers[i].value) {
			t.Fatalf("header %d: got %+v, want %+v", i, h, want.headers[i])
		}
	}
}

// Every layout with lengths keeps keys, values, NULLs and headers, whatever bytes they hold.
func TestFormatRoundTrip(t *testing.T) {
	for _, layout := range []string{
		losslessFormat,
		`%d{big64}%K{big32}%k%V{big32}%v%H{big32}%h{%K{big32}%k%V{big32}%v}`,
		`%K{little16}%V{hex16}%H{byte}%k{hex}%v{base64}%h{%K{3}%V{5}%k%v{base64raw}};`,
		`%t %T{4}%o,%e:%i|%p;%H{hex32}%h{%K{ascii}=%V{number}:%k{base64}%v{hex}\x00}%K{little64}%k%V{hex64}%v`,
		`{%%%K{hex8}%{%V{big16}%}%H{hex4}%k%v%h{[%K %V %k %v]}}`,
	} {
		t.Run(layout, func(t *testing.T) {
			f, err := parseFormat(layout)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				messages := rapid.SliceOfN(rapid.Custom(drawMessage), 0, 5).Draw(t, "messages")
				var text []byte
				for i := range messages {
					if text, err = f.appendTo(text, &messages[i], int64(i+1)); err != nil {
						t.Fatal(err)
					}
				}
				r, err := newFormatReader(f, iotest.OneByteReader(bytes.NewReader(text)), 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				for i := range messages {
					var got message
					if err := r.next(&got); err != nil {
						t.Fatalf("read %d of %q: %v", i, text, err)
					}
					checkSame(t, got, messages[i])
				}
				if err := r.next(&message{}); !errors.Is(err, io.EOF) {
					t.Fatalf("behind the last: %v", err)
				}
			})
		})
	}
}

func TestLosslessFormatKeepsTimestampAndPartition(t *testing.T) {
	f, err := parseFormat(losslessFormat)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		text, err := f.appendTo(nil, &m, 1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := newFormatReader(f, bytes.NewReader(text), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var got message
		if err := r.next(&got); err != nil {
			t.Fatal(err)
		}
		if got.timestamp != m.timestamp || got.partition != m.partition {
			t.Fatalf("got %d %d, want %d %d", got.timestamp, got.partition, m.timestamp, m.partition)
		}
	})
}

// Where nothing is NULL we print what rpk's own formatter prints.
func TestFormatPrintsAsRpk(t *testing.T) {
	layouts := []string{
		`%v\n`, `%k\t%v\n`, `%t[%p]@%o %e\n`, `%T %K %V %H %i`, `%h{%k=%v, %K{hex} %V{big16}}`, `%d`, `%d{big64}`,
		`%d{go[2006-01-02T15:04:05.000Z07:00]}`, `%d{go##Monday##}`, `%d{strftime[%F %T %Y%m%d %H:%M:%S %y %j %a %b]}`,
		`%K{ascii}%K{number}%V{hex64}%V{hex32}%V{hex16}%V{hex8}%V{hex4}%V{hex}%p{byte}%p{bool}`,
		`%o{big64}%o{big32}%o{big16}%o{big8}%o{little64}%o{little32}%o{little16}%o{little8}`,
		`%k{hex}%v{base64}%t{base64raw}`, `\x00\\\r%%%{%}`,
	}
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		if m.key == nil {
			m.key = []byte{}
		}
		if m.value == nil {
			m.value = []byte{}
		}
		r := kgo.Record{
			Topic: m.topic, Partition: m.partition, Offset: m.offset, LeaderEpoch: m.epoch,
			Timestamp: time.UnixMilli(m.timestamp), Key: m.key, Value: m.value,
		}
		for i := range m.headers {
			if m.headers[i].value == nil {
				m.headers[i].value = []byte{}
			}
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: m.headers[i].key, Value: m.headers[i].value})
		}
		layout := rapid.SampledFrom(layouts).Draw(t, "layout")
		f, err := parseFormat(layout)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := kgo.NewRecordFormatter(layout)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.appendTo(nil, &m, 1)
		if err != nil {
			return // a length that its encoding cannot hold: rpk would cut it off
		}
		if want := theirs.AppendRecord(nil, &r); !bytes.Equal(got, want) {
			t.Fatalf("%s: got %q, rpk %q", layout, got, want)
		}
	})
}

func TestFormatReadsDelimited(t *testing.T) {
	for _, c := range []struct {
		layout, input string
		want          []string // key=value
		err           string
	}{
		{`%v\n`, "a\n\nb", []string{"-=a", "-=", "-=b"}, ""},
		{`%k\t%v\n`, "a\tb\nc\td e\n", []string{"a=b", "c=d e"}, ""},
		{`%k: %v--`, "a: b-c--d: e--", []string{"a=b-c", "d=e"}, ""},
		{`%k=%v`, "a=b=c\nd", []string{"a=b=c\nd"}, ""},
		{`%k\t%v\n`, "a\tb\nc\n", []string{"a=b"}, "record 2: the input ends inside it"},
		{`%K %k %V %v\n`, "1 a -1 \n0  2 xy\n", []string{"a=-", "=xy"}, ""},
		{`%v{hex}\n`, "6162\nzz\n", []string{"-=ab"}, "record 2: %v: encoding/hex: invalid byte: U+007A 'z'"},
		{`%V{3}%v`, "003abc-01", []string{"-=abc", "-=-"}, ""},
		{`%V{bool}%v;`, "truex;false;", []string{"-=x", "-="}, ""},
		{`%K,%k`, "x,", nil, `record 1: %K: "x" is no number`},
		{`%K,%k`, "-2,", nil, "record 1: %K: -2 is no length"},
		{`%K,%k`, "99999999999999999999,", nil, `record 1: %K: "99999999999999999999" is no number`},
		{`%K,%k`, "101,a", nil, "record 1: %k: it is larger than 100 bytes"},
		{`%V{big32}%v`, "\x7f\xff\xff\xff", nil, "record 1: %v: it is larger than 100 bytes"},
		{`%H{big32}%h{%k,}`, "\x7f\xff\xff\xff", nil, "record 1: header: the input ends inside it"},
		{`%V{big32}%v`, "\x00\x00\x00\x05abc", nil, "record 1: the input ends inside it"},
		{`a%v\n`, "ax\nbx\n", []string{"-=x"}, `record 2: the format wants "a", the input has "b"`},
		{`%v\n`, strings.Repeat("x", 100) + "\n" + strings.Repeat("y", 101) + "\n", []string{"-=" + strings.Repeat("x", 100)}, "record 2: %v: it is larger than 100 bytes"},
	} {
		t.Run(c.layout, func(t *testing.T) {
			f, err := parseFormat(c.layout)
			if err != nil {
				t.Fatal(err)
			}
			r, err := newFormatReader(f, strings.NewReader(c.input), 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				var m message
				if err = r.next(&m); err != nil {
					break
				}
				got = append(got, show(m.key)+"="+show(m.value))
			}
			if strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if text := errorText(err); text != c.err && !strings.HasPrefix(c.layout, "%H") {
				t.Errorf("error %q, want %q", text, c.err)
			} else if (text == "") != (c.err == "") {
				t.Errorf("error %q, want %q", text, c.err)
			}
		})
	}
}

func show(b []byte) string {
	if b == nil {
		return "-"
	}
	return string(b)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestFormatRefuses(t *testing.T) {
	for layout, want := range map[string]string{
		``:                    "format is empty",
		`%`:                   "a single % at the end",
		`%q`:                  "unknown verb %q",
		`\q`:                  `unknown escape \q`,
		`\x0`:                 `\x wants two hexadecimal digits`,
		`%v{`:                 "no closing brace",
		`%v{rot13}`:           "unknown text encoding",
		`%V{32}`:              "unknown number encoding",
		`%V{hexa}`:            "unknown number encoding",
		`%V{99}`:              "unknown number encoding",
		`%h`:                  "wants braces",
		`%h{%t}`:              "unknown verb %t here",
		`%h{%k`:               "no closing brace",
		`%d{go}`:              "wants a layout",
		`%d{go[2006}`:         "does not end with ]",
		`%d{strftime[%Q]}`:    "unknown conversion %Q",
		`%d{strftime[%F]x}`:   "does not end with ]",
		`%v{unpack[bb]} and`:  "unknown text encoding",
		`%a{compression}`:     "unknown verb %a",
		`text\`:               `a single \ at the end`,
		`%k{hex}%V{bigendia}`: "unknown number encoding",
	} {
		if _, err := parseFormat(layout); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", layout, err, want)
		}
	}
	for layout, want := range map[string]string{
		`%k%v`:            "cannot read %k",
		`%K%k`:            "the digits may go on",
		`%K%V `:           "the digits may go on",
		`%K7%k`:           "the digits may go on",
		`%K{hex} %k`:      "%K{hex32}",
		`%h{%k,}`:         "put %H before it",
		`%H %h{%k}`:       "cannot read %k",
		`%H %h{}`:         "%h{} is empty",
		`%H %h{%k%v,}`:    "cannot read %k",
		`%d{go[2006]} %v`: "calendar",
	} {
		f, err := parseFormat(layout)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newFormatReader(f, strings.NewReader(""), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", layout, err, want)
		}
	}
}

// A length that would be cut off, or be taken for NULL, is refused, not printed.
func TestFormatRefusesLengthsThatDoNotFit(t *testing.T) {
	for layout, fits := range map[string]int{`%V{byte}%v`: 254, `%V{hex8}%v`: 254, `%V{2}%v`: 99, `%V{little16}%v`: 65534} {
		f, err := parseFormat(layout)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.appendTo(nil, &message{value: make([]byte, fits)}, 1); err != nil {
			t.Errorf("%s of %d bytes: %v", layout, fits, err)
		}
		if _, err := f.appendTo(nil, &message{value: make([]byte, fits+1)}, 1); err == nil {
			t.Errorf("%s of %d bytes was printed", layout, fits+1)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add(losslessFormat, []byte("1 2 1 2 1 abc1 -1 h\n"))
	f.Add(`%K{big32}%k%v{base64};`, []byte("\x00\x00\x00\x01aYg==;"))
	f.Fuzz(func(t *testing.T, layout string, input []byte) {
		parsed, err := parseFormat(layout)
		if err != nil {
			return
		}
		r, err := newFormatReader(parsed, bytes.NewReader(input), 1<<10)
		if err != nil {
			return
		}
		for range 100 {
			var m message
			if r.next(&m) != nil {
				return
			}
			if len(m.key)+len(m.value) > 1<<10 {
				t.Fatalf("%d bytes over the limit", len(m.key)+len(m.value))
			}
		}
	})
}

func TestMessageJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		line := m.appendJSON(nil)
		if !json.Valid(line) || bytes.IndexByte(line, '\n') >= 0 {
			t.Fatalf("not one line of JSON: %q", line)
		}
		var got message
		if err := got.parseJSON(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		checkSame(t, got, m)
		if got.timestamp != m.timestamp || got.partition != m.partition {
			t.Fatalf("got %+v, want %+v", got, m)
		}
	})
}

func TestMessageJSON(t *testing.T) {
	for want, m := range map[string]message{
		`{"topic":"t","partition":1,"offset":2,"timestamp":3,"key":null,"value":null}`:                                                              {topic: "t", partition: 1, offset: 2, timestamp: 3},
		`{"topic":"t","partition":0,"offset":0,"timestamp":0,"key":"","value":"a\"\\\n\u0001é\u2028"}`:                                              {topic: "t", key: []byte{}, value: []byte("a\"\\\n\x01é\u2028")},
		`{"topic":"t","partition":0,"offset":0,"timestamp":0,"key":"aw==","value":"/w==","encoding":"base64"}`:                                      {topic: "t", key: []byte("k"), value: []byte{0xff}},
		`{"topic":"t","partition":0,"offset":0,"timestamp":0,"key":null,"value":"v","headers":[{"key":"a","value":null}]}`:                          {topic: "t", value: []byte("v"), headers: []messageHeader{{key: "a"}}},
		`{"topic":"t","partition":0,"offset":0,"timestamp":0,"key":null,"value":"dg==","headers":[{"key":"a","value":"/w=="}],"encoding":"base64"}`: {topic: "t", value: []byte("v"), headers: []messageHeader{{key: "a", value: []byte{0xff}}}},
	} {
		if got := string(m.appendJSON(nil)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func BenchmarkFormatLines(b *testing.B) {
	f, err := parseFormat(`%v\n`)
	if err != nil {
		b.Fatal(err)
	}
	m := message{value: bytes.Repeat([]byte("x"), 100)}
	var buf []byte
	b.SetBytes(101)
	for b.Loop() {
		if buf, err = f.appendTo(buf[:0], &m, 1); err != nil {
			b.Fatal(err)
		}
	}
}
