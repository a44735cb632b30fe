package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// The JSON form of a record, one object a line, keeps all of it:
//
//	{"topic":"t","partition":0,"offset":7,"timestamp":1763942400000,"key":"k","value":"v",
//	 "headers":[{"key":"a","value":"b"}]}
//
// NULL is null: a record with "value":null is a tombstone. "headers" is left out when there are none. When key, value
// or any header value is not UTF-8, "encoding":"base64" stands at the end, and then every one of them that is not null
// is in base64 (header keys never are: they are always UTF-8). So what is printed tells exactly what the record holds.

// appendJSON prints m in this form, without a line feed.
func (m *message) appendJSON(dst []byte) []byte {
	encode := appendJSONString
	binary := !m.isText()
	if binary {
		encode = appendJSONBase64
	}
	dst = appendJSONString(append(dst, `{"topic":`...), []byte(m.topic))
	dst = strconv.AppendInt(append(dst, `,"partition":`...), int64(m.partition), 10)
	dst = strconv.AppendInt(append(dst, `,"offset":`...), m.offset, 10)
	dst = strconv.AppendInt(append(dst, `,"timestamp":`...), m.timestamp, 10)
	dst = encode(append(dst, `,"key":`...), m.key)
	dst = encode(append(dst, `,"value":`...), m.value)
	for i, h := range m.headers {
		if i == 0 {
			dst = append(dst, `,"headers":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendJSONString(append(dst, `{"key":`...), []byte(h.key))
		dst = append(encode(append(dst, `,"value":`...), h.value), '}')
	}
	if len(m.headers) > 0 {
		dst = append(dst, ']')
	}
	if binary {
		dst = append(dst, `,"encoding":"base64"`...)
	}
	return append(dst, '}')
}

func (m *message) isText() bool {
	if !utf8.Valid(m.key) || !utf8.Valid(m.value) {
		return false
	}
	for _, h := range m.headers {
		if !utf8.Valid(h.value) {
			return false
		}
	}
	return true
}

func appendJSONBase64(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "null"...)
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, '"'), b)
	return append(dst, '"')
}

// appendJSONString prints valid UTF-8 as a JSON string, and nil as null. Beside what JSON wants it escapes DEL and the
// line separators U+2028 and U+2029, which terminals and JavaScript take amiss.
func appendJSONString(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f && c != 0xe2 {
			continue
		}
		width := 1
		var escape string
		switch c {
		case '"':
			escape = `\"`
		case '\\':
			escape = `\\`
		case '\n':
			escape = `\n`
		case '\r':
			escape = `\r`
		case '\t':
			escape = `\t`
		case 0xe2:
			if i+2 >= len(b) || b[i+1] != 0x80 || b[i+2]&^1 != 0xa8 {
				continue
			}
			width, escape = 3, `\u202`+string(hexDigits[b[i+2]&15])
		default:
			escape = `\u00` + string(hexDigits[c>>4]) + string(hexDigits[c&15])
		}
		dst = append(append(dst, b[done:i]...), escape...)
		i += width - 1
		done = i + 1
	}
	return append(append(dst, b[done:]...), '"')
}

// jsonMessage is what produce -f json takes from a line.
type jsonMessage struct {
	Topic     string       `json:"topic"` // dropped: the command says where to
	Partition *int32       `json:"partition"`
	Offset    int64        `json:"offset"` // dropped
	Timestamp int64        `json:"timestamp"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   []jsonHeader `json:"headers"`
	Encoding  string       `json:"encoding"`
}

type jsonHeader struct {
	Key   string  `json:"key"`
	Value *string `json:"value"`
}

// parseJSON reads a line of the form that appendJSON prints.
func (m *message) parseJSON(line []byte) error {
	// encoding/json would put U+FFFD in the place of what is not UTF-8, and so change the record.
	if !utf8.Valid(line) {
		return errors.New("not UTF-8; such values are written in base64, with \"encoding\":\"base64\"")
	}
	// A misspelt or missing field must not turn into a null value: that is a tombstone.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return fmt.Errorf("not a record in JSON: %w", err)
	}
	if _, ok := fields["value"]; !ok {
		return errors.New(`a record in JSON needs a "value"; null stands for a tombstone`)
	}
	var j jsonMessage
	strict := json.NewDecoder(bytes.NewReader(line))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&j); err != nil {
		return fmt.Errorf("not a record in JSON: %w", err)
	}
	*m = message{partition: -1, timestamp: j.Timestamp}
	if j.Partition != nil {
		if *j.Partition < 0 {
			return fmt.Errorf("partition %d does not exist", *j.Partition)
		}
		m.partition = *j.Partition
	}
	decode := func(s *string) ([]byte, error) {
		switch {
		case s == nil:
			return nil, nil
		case j.Encoding == "base64":
			return base64.StdEncoding.AppendDecode([]byte{}, []byte(*s))
		}
		return append([]byte{}, *s...), nil
	}
	if j.Encoding != "" && j.Encoding != "base64" {
		return fmt.Errorf("unknown encoding %q; there is only base64", j.Encoding)
	}
	var err error
	if m.key, err = decode(j.Key); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if m.value, err = decode(j.Value); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	for _, h := range j.Headers {
		value, err := decode(h.Value)
		if err != nil {
			return fmt.Errorf("header %q: %w", h.Key, err)
		}
		m.headers = append(m.headers, messageHeader{key: h.Key, value: value})
	}
	return nil
}
