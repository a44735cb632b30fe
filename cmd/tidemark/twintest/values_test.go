//go:build cgo

package twintest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/record"
)

// values makes records of which the later ones have other fields and other types than those before.
type values struct {
	*rand.Rand

	made int // records so far: fields appear with time
}

func newValues(seed, stream uint64) *values {
	return &values{Rand: rand.New(rand.NewPCG(seed, 1000+stream))}
}

// one tells whether something happens that does so once in n times.
func (v *values) one(n int) bool { return v.IntN(n) == 0 }

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

var words = []string{
	"", "a", "b", "x", "amber", "Amber", "basalt", "copper", "100", "7", "-3.5", "1e3", "true", "NULL", "null", "it's", `say "hi"`, "a%b_c", "tab\there", "line\nbreak",
	"naïve", "Zürich", "zürich", "ÅÄÖ", "日本語", "😀👍🏽", "e\u0301", "é", "\u0000", "nul\u0000inside", "\ufeff", "ß", "İi", "2024-03-31T01:30:00Z", "2023-10-29 02:30:00", "not a date",
}

// record makes the next record.
func (v *values) record() record.Record {
	v.made++
	r := record.Record{Timestamp: v.stamp(), Value: v.value()}
	switch v.IntN(6) {
	case 0:
	case 1:
		r.Key = []byte{0xff, byte(v.IntN(4))}
	case 2:
		r.Key = []byte{}
	default:
		r.Key = []byte(pick(v.Rand, words...))
	}
	for range max(0, v.IntN(5)-2) {
		h := record.Header{Key: pick(v.Rand, "trace", "é", "")}
		if !v.one(4) {
			h.Value = []byte(pick(v.Rand, words...))
		}
		r.Headers = append(r.Headers, h)
	}
	return r
}

// stamp is mostly of a few days around changes of the clocks, so that groups of hours and days have members.
func (v *values) stamp() int64 {
	const hour = 3_600_000
	switch v.IntN(20) {
	case 0:
		return -1 // none
	case 1:
		return -int64(v.Uint32()) * 500
	case 2:
		return 4_102_444_800_000 + v.Int64N(1<<40)
	default:
		return pick(v.Rand, int64(1_711_843_200_000), 1_698_537_600_000, 1_720_000_000_000) + v.Int64N(72)*hour/2 + v.Int64N(3)*1001
	}
}

func (v *values) value() []byte {
	switch v.IntN(40) {
	case 0:
		return nil
	case 1:
		return []byte(pick(v.Rand, "", " ", "no JSON", "null", "17", `"text"`, "[1,2]", "{}", "{", `{"id":1}x`, `{"id":NaN}`, `{"id":01}`, "{\"id\":1}\x00", `{"id":1,}`, "\xef\xbb\xbf{\"id\":1}"))
	case 2:
		return []byte("{\"id\":" + strconv.Itoa(v.IntN(20)) + ",\"name\":\"bad \xff\xfe\"}")
	case 3:
		return []byte{0xff, 0x00, byte(v.IntN(256))}
	}
	return []byte(v.document())
}

// document writes an object by hand, since no library writes what senders send.
func (v *values) document() string {
	var members []string
	add := func(key, value string) {
		members = append(members, v.quote(key)+pick(v.Rand, ":", ": ", " :\n\t")+value)
	}
	maybe := func(n int, key string, value func() string) { // in all but one of n documents
		switch {
		case v.one(n):
		case v.one(25):
			add(key, "null")
		case v.one(30):
			add(key, v.misfit())
		default:
			add(key, value())
		}
	}
	maybe(20, "id", func() string { return strconv.Itoa(v.IntN(60)) })
	maybe(4, "n", v.integer)
	maybe(4, "amount", v.double)
	maybe(3, "name", v.word)
	maybe(4, "ok", func() string { return pick(v.Rand, "true", "false") })
	maybe(4, "tags", func() string { return v.list(3, v.word) })
	maybe(4, "nums", func() string { return v.list(4, v.integer) })
	maybe(6, "reals", func() string { return v.list(3, v.double) })
	maybe(5, "address", func() string { return v.address() })
	maybe(5, "items", func() string { return v.list(3, v.item) })
	maybe(10, "grid", func() string { return v.list(3, func() string { return v.list(3, v.small) }) })
	maybe(8, "mixed", func() string { return v.list(4, v.misfit) })
	maybe(10, "when", func() string {
		return strconv.Quote(pick(v.Rand, "2024-03-31T01:30:00Z", "2023-10-29 02:30:00", "1999-12-31", "soon"))
	})
	maybe(10, "Name", v.word)
	maybe(15, "a b", v.small)
	maybe(15, "select", v.word)
	maybe(20, "_value", v.small)
	maybe(20, "übung", v.double)
	maybe(10, "count", v.small)
	maybe(10, "chosen", v.misfit)
	maybe(10, "raw", v.misfit)
	maybe(10, "price", v.misfit)
	// Fields that come with time, each of another type; and from time to time one that nobody sends twice.
	for n := range min(40, v.made/150) {
		if v.one(12) {
			add(fmt.Sprintf("late%d", n), v.late(n))
		}
	}
	if v.one(10) {
		members = append(members, members[v.IntN(max(1, len(members))):]...) // duplicates
	}
	if v.one(10) {
		add("id", "-1")
	}
	v.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return pick(v.Rand, "", "", " ", "\n") + "{" + strings.Join(members, pick(v.Rand, ",", ", ", " ,\r\n")) + "}" + pick(v.Rand, "", "", "\t ")
}

// late is a value of a field that appears with time: one type mostly.
func (v *values) late(n int) string {
	if v.one(20) {
		return v.misfit()
	}
	switch n % 7 {
	case 0:
		return v.small()
	case 1: // a BIGINT that becomes a DOUBLE
		if v.one(10) {
			return v.double()
		}
		return v.integer()
	case 2:
		return v.word()
	case 3:
		return v.list(3, v.small)
	case 4:
		return v.address()
	case 5:
		return pick(v.Rand, "true", "false")
	default:
		return v.list(2, v.item)
	}
}

func (v *values) quote(s string) string {
	if v.one(20) { // escapes
		var out strings.Builder
		out.WriteByte('"')
		for _, c := range s {
			if c < 0x10000 {
				fmt.Fprintf(&out, `\u%04x`, c)
			} else {
				out.WriteRune(c)
			}
		}
		return out.String() + `"`
	}
	out, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return string(out)
}

func (v *values) word() string {
	if v.one(40) {
		return `"half \ud83d of a pair"`
	}
	return v.quote(pick(v.Rand, words...))
}

func (v *values) small() string { return strconv.Itoa(v.IntN(20) - 5) }

func (v *values) integer() string {
	switch v.IntN(12) {
	case 0:
		return pick(v.Rand, "9223372036854775807", "-9223372036854775808", "9007199254740993", "-0", "9223372036854775808", "123456789012345678901234567890")
	case 1:
		return strconv.FormatInt(int64(v.Uint64()), 10)
	default:
		return strconv.Itoa(v.IntN(2000) - 500)
	}
}

func (v *values) double() string {
	switch v.IntN(12) {
	case 0:
		return pick(v.Rand, "1e400", "-1e400", "1e308", "5e-324", "1E5", "0.1", "0.30000000000000004", "1"+strings.Repeat("0", 400), "9007199254740993", "0e0", "2.5e+3")
	case 1:
		return v.integer()
	default:
		return strconv.FormatFloat(float64(v.IntN(100_000)-20_000)/64, 'g', -1, 64)
	}
}

// misfit is any value.
func (v *values) misfit() string {
	return pick(v.Rand, "true", "3", "2.5", `"text"`, "[]", "{}", "[1, 2]", `{"x" : 1}`, "null", `["a"]`, "-7", `"12"`, `[ {"deep":[[[1]]]} ]`)
}

// list is an array, whose elements may be null.
func (v *values) list(longest int, elem func() string) string {
	parts := make([]string, v.IntN(longest+1))
	for i := range parts {
		if parts[i] = elem(); v.one(12) {
			parts[i] = "null"
		}
	}
	return "[" + strings.Join(parts, pick(v.Rand, ",", " , ")) + "]"
}

func (v *values) address() string {
	members := []string{`"city":` + v.word(), `"zip":` + v.small()}
	if v.one(2) {
		members = append(members, `"geo":{"lat":`+v.double()+`,"lon":`+v.double()+`}`)
	}
	if v.one(4) {
		members = append(members, `"City":`+v.small())
	}
	if v.one(6) {
		members = append(members, `"lines":`+v.list(2, v.word))
	}
	if v.one(10) {
		members = append(members, `"mixed":[1,"x",`+v.misfit()+`]`)
	}
	if v.one(10) {
		members = append(members, `"since`+strconv.Itoa(min(v.made/400, 8))+`":`+v.small())
	}
	if v.one(30) {
		members = append(members, `"zip":`+v.misfit())
	}
	v.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ",") + "}"
}

func (v *values) item() string {
	if v.one(15) {
		return "{}"
	}
	return `{"sku":` + v.word() + `,"qty":` + v.small() + pick(v.Rand, "", `,"price":`+v.double(), `,"gift":true`) + "}"
}

// The values are what they are meant to be: mostly objects, some not, with fields that come later.
func TestValues(t *testing.T) {
	v := newValues(1, 0)
	objects, early, late := 0, "", ""
	const n = 4000
	for i := range n {
		value := v.record().Value
		if readDocument(value) != nil {
			objects++
		}
		if i < 100 {
			early += string(value)
		} else if i > n-500 {
			late += string(value)
		}
	}
	if objects < n*8/10 || objects > n*97/100 {
		t.Errorf("%d of %d values are objects", objects, n)
	}
	if strings.Contains(early, "late") || !strings.Contains(late, "late20") {
		t.Error("the schema does not drift")
	}
}
