package column

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// maxNesting is how deep the brackets of a document may nest.
const maxNesting = 512

// How documents are read. That they are UTF-8 is known, so invalid UTF-8 can only come of an escape: half of a surrogate pair.
var readerOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// jsonReader reads one JSON document after the other, each from the front to the back, token by token: brackets, names, strings, numbers, true, false
// and null. A document is valid UTF-8, and must not change while it is read. A method that returns ok false has found that the document is no JSON or
// nests too deep, and then nothing else may be asked but begin.
type jsonReader struct {
	document []byte
	source   bytes.Buffer // of which the decoder reads the document without a copy
	decoder  jsontext.Decoder
	at       int    // behind the last token
	text     []byte // scratch of unquote
}

func (r *jsonReader) begin(document []byte) {
	r.document, r.at = document, 0
	r.source = *bytes.NewBuffer(document)
	r.decoder.Reset(&r.source, readerOptions...)
}

// next reads the next token, as it stands in the document. Where the name of a member may stand it is a string or the bracket that ends the object.
func (r *jsonReader) next() (token []byte, ok bool) {
	if _, err := r.decoder.ReadToken(); err != nil || r.decoder.StackDepth() > maxNesting {
		return nil, false
	}
	before := r.at
	r.at = int(r.decoder.InputOffset())
	token = r.document[before:r.at]
	for token[0] <= ' ' || token[0] == ',' || token[0] == ':' { // what stands between tokens: the decoder has seen that it belongs there
		token = token[1:]
	}
	return token, true
}

// done tells whether there is nothing but white space behind what was read.
func (r *jsonReader) done() bool {
	if r.at == len(r.document) {
		return true
	}
	_, err := r.decoder.ReadToken()
	return errors.Is(err, io.EOF)
}

// kindOf is the kind of a token: one of {}[]"0tfn.
func kindOf(token []byte) jsontext.Kind { return jsontext.Value(token).Kind() }

// skip reads what is left of a value of which a token was read, and gives all of it as it stands in the document. Scalar tells whether there was a
// string, a number, true or false in it.
func (r *jsonReader) skip(token []byte) (value []byte, scalar, ok bool) {
	if kind := kindOf(token); kind != '{' && kind != '[' {
		return token, kind != 'n', true
	}
	begin := r.at - 1
	for outside := r.decoder.StackDepth() - 1; r.decoder.StackDepth() > outside; {
		if token, ok = r.next(); !ok {
			return nil, false, false
		}
		switch kindOf(token) {
		case '{', '}', '[', ']', 'n':
		case '"':
			// Behind the name of a member, the names and values of the object are odd in number.
			within, n := r.decoder.StackIndex(r.decoder.StackDepth())
			scalar = scalar || within == '[' || n%2 == 0
		default:
			scalar = true
		}
	}
	return r.document[begin:r.at], scalar, true
}

// escaped tells whether a string, as it stands in the document, is not just the bytes between its quotes.
func escaped(token []byte) bool { return bytes.IndexByte(token, '\\') >= 0 }

// appendText appends the text of a string. Half of a surrogate pair becomes U+FFFD.
func appendText(out, token []byte) []byte {
	if !escaped(token) {
		return append(out, token[1:len(token)-1]...)
	}
	out, _ = jsontext.AppendUnquote(out, token) // the error is of half a surrogate pair: the string was read before
	return out
}

// unquote gives the text of a string. The bytes are good until the next call.
func (r *jsonReader) unquote(token []byte) []byte {
	if !escaped(token) {
		return token[1 : len(token)-1]
	}
	r.text = appendText(r.text[:0], token)
	return r.text
}

// number is a numeric literal.
type number struct {
	raw []byte
	// integer: it has neither fraction nor exponent; exact: it is besides an int64, which i is.
	integer, exact bool
	i              int64
}

// numberOf reads what a token of a number says.
func numberOf(token []byte) number {
	n := number{raw: token}
	for _, c := range token {
		if c == '.' || c == 'e' || c == 'E' {
			return n
		}
	}
	n.integer = true
	if len(token) <= len("-9223372036854775808") {
		i, err := strconv.ParseInt(string(token), 10, 64)
		n.i, n.exact = i, err == nil
	}
	return n
}

// float is the double nearest to the number; finite is false when that is infinite. A number that is an int64 gives what the int64 does, so -0 is 0.
func (n number) float() (f float64, finite bool) {
	if n.exact {
		return float64(n.i), true
	}
	f, err := strconv.ParseFloat(string(n.raw), 64)
	return f, err == nil
}
