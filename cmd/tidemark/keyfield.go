package main

import (
	"bytes"
	"encoding/json"
)

// keyField returns the key that --key-field takes from a value: the text of the named member of the top-level object.
// A string gives its characters, a number, boolean, object or array its JSON as it stands in the line. The key is nil
// (NULL) when the line is not a JSON object, the member is absent, or it is null. Of a member that occurs more than
// once the last counts, as in most JSON libraries. The result may alias line.
func keyField(line []byte, field string) []byte {
	rest := skipSpace(line)
	if len(rest) == 0 || rest[0] != '{' || !json.Valid(line) {
		return nil
	}
	// From here on the line is known to be valid: no step below can run past its end.
	var key []byte
	rest = skipSpace(rest[1:])
	for rest[0] != '}' {
		var name, value []byte
		name, rest = cutJSON(rest)
		rest = skipSpace(rest)[1:] // the colon
		value, rest = cutJSON(skipSpace(rest))
		if nameIs(name, field) {
			key = memberText(value)
		}
		rest = skipSpace(rest)
		if rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	return key
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// cutJSON splits the first value off b, which holds valid JSON that begins with one.
func cutJSON(b []byte) (value, rest []byte) {
	switch b[0] {
	case '"':
		n := stringEnd(b)
		return b[:n], b[n:]
	case '{', '[':
		depth := 0
		for i := 0; ; {
			switch b[i] {
			case '"':
				i += stringEnd(b[i:])
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			i++
			if depth == 0 {
				return b[:i], b[i:]
			}
		}
	}
	n := bytes.IndexAny(b, ",}] \t\r\n")
	return b[:n], b[n:]
}

// stringEnd is the length of the JSON string at the beginning of b, quotes included.
func stringEnd(b []byte) int {
	i := 1
	for b[i] != '"' {
		if b[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

func nameIs(quoted []byte, field string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == field
	}
	return string(unquote(quoted)) == field
}

func memberText(value []byte) []byte {
	switch {
	case value[0] == 'n': // null
		return nil
	case value[0] != '"':
		return value
	case bytes.IndexByte(value, '\\') < 0:
		return value[1 : len(value)-1 : len(value)-1]
	}
	return unquote(value)
}

func unquote(quoted []byte) []byte {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return quoted[1 : len(quoted)-1] // not possible in valid JSON; the raw text is the honest fallback
	}
	return []byte(s)
}
