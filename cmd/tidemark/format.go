package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// losslessFormat keeps all that a record has but its offset: timestamp, partition, key, value and headers, NULLs
// included. Lengths are decimal, so that text stays readable.
const losslessFormat = `%d %p %K %V %H %k%v%h{%K %V %k%v}\n`

// formatHelp explains -f in the help of produce and consume.
const formatHelp = `FORMAT (-f) is a layout of literal text and verbs, as rpk has them:
  %k %v        key, value               %K %V        their lengths in bytes, -1 for NULL
  %h{...}      each header: %k %v %K %V inside      %H  number of headers
  %t %T        topic, its length        %p %o %e     partition, offset, leader epoch
  %d           timestamp, ms since 1970 %i           number of the record, from 1
  %% %{ %}     a percent sign, a brace  \n \t \r \\ \xNN  bytes
Text (%k %v %t) may be encoded: %v{hex} %v{base64} %v{base64raw}.
Numbers may be encoded: {ascii} (or {number}, the default), {hex64} … {hex4},
{big64} … {big8}, {little64} … {little8}, {byte}, {bool}, {3} (three digits),
and for printing {hex}. Timestamps also print as %d{go[2006-01-02T15:04:05Z07:00]}
and %d{strftime[%F %T]}.

Reading uses lengths or delimiters: a text verb is as long as the length verb
before it says, else it ends where the literal text behind it begins. A length
is that of the plain bytes, also when the text is encoded. A length of -1 (in
{big32} the bytes ff ff ff ff, and so on) is NULL; without length verbs NULL
cannot be told from empty. %H stands before %h. What was read for %t %o %e %i is
dropped; %p chooses the partition, %d the timestamp.

Everything is kept, NULLs included, by
  consume -f '` + losslessFormat + `' | produce -f '` + losslessFormat + `'
or, in binary, by '%d{big64}%K{big32}%k%V{big32}%v%H{big32}%h{%K{big32}%k%V{big32}%v}'`

// format is a parsed layout: what to print, or to read, one part after the other.
type format []formatPart

// formatPart is literal text (verb 0) or a verb with its modifier.
type formatPart struct {
	verb    byte
	literal []byte
	text    textEncoding   // of k v t
	number  numberEncoding // of the verbs that are numbers
	layout  string         // of d, when time is not a number
	time    timeStyle
	inner   format // of h
}

type timeStyle uint8

const (
	timeNumber timeStyle = iota
	timeGo
	timeStrftime
)

const (
	textVerbs   = "kvt"
	numberVerbs = "KVTHpoei"
)

// parseFormat reads a layout as -f takes it.
func parseFormat(layout string) (format, error) {
	f, err := parseFormatIn(layout, textVerbs+numberVerbs+"dh")
	if err != nil {
		return nil, fmt.Errorf("format %q: %w", layout, err)
	}
	if len(f) == 0 {
		return nil, errors.New("format is empty")
	}
	return f, nil
}

func parseFormatIn(layout, verbs string) (format, error) {
	var f format
	var literal []byte
	flush := func() {
		if len(literal) > 0 {
			f = append(f, formatPart{literal: literal})
			literal = nil
		}
	}
	for len(layout) > 0 {
		c := layout[0]
		layout = layout[1:]
		switch {
		case c == '\\':
			b, rest, err := parseEscape(layout)
			if err != nil {
				return nil, err
			}
			literal, layout = append(literal, b), rest
		case c != '%':
			literal = append(literal, c)
		case layout == "":
			return nil, errors.New("a single % at the end; write %% for a percent sign")
		case strings.IndexByte("%{}", layout[0]) >= 0:
			literal, layout = append(literal, layout[0]), layout[1:]
		default:
			flush()
			verb := layout[0]
			if strings.IndexByte(verbs, verb) < 0 {
				return nil, fmt.Errorf("unknown verb %%%c here; these exist: %s", verb, listVerbs(verbs))
			}
			part, rest, err := parseVerb(verb, layout[1:])
			if err != nil {
				return nil, err
			}
			f, layout = append(f, part), rest
		}
	}
	flush()
	return f, nil
}

func listVerbs(verbs string) string {
	var b strings.Builder
	for i := range len(verbs) {
		b.WriteString(" %")
		b.WriteByte(verbs[i])
	}
	return b.String()[1:]
}

// parseEscape reads what stands behind a backslash.
func parseEscape(s string) (byte, string, error) {
	if s == "" {
		return 0, "", errors.New(`a single \ at the end; write \\ for a backslash`)
	}
	switch s[0] {
	case 'n':
		return '\n', s[1:], nil
	case 't':
		return '\t', s[1:], nil
	case 'r':
		return '\r', s[1:], nil
	case '\\':
		return '\\', s[1:], nil
	case 'x':
		if len(s) >= 3 {
			if b, err := hex.DecodeString(s[1:3]); err == nil {
				return b[0], s[3:], nil
			}
		}
		return 0, "", errors.New(`\x wants two hexadecimal digits`)
	}
	return 0, "", fmt.Errorf(`unknown escape \%c; these exist: \n \t \r \\ \xNN`, s[0])
}

// parseVerb reads the modifier of a verb, when there is one, from the text behind it.
func parseVerb(verb byte, rest string) (formatPart, string, error) {
	part := formatPart{verb: verb}
	if verb == 'h' {
		inner, rest, err := cutBraces(verb, rest)
		if err != nil {
			return part, "", err
		}
		part.inner, err = parseFormatIn(inner, "kvKV")
		if err != nil {
			return part, "", fmt.Errorf("inside %%h{}: %w", err)
		}
		return part, rest, nil
	}
	if !strings.HasPrefix(rest, "{") {
		return part, rest, nil
	}
	if verb == 'd' {
		if style, layout, rest, ok, err := cutTimeLayout(rest[1:]); ok || err != nil {
			part.time, part.layout = style, layout
			return part, rest, err
		}
	}
	modifier, rest, ok := strings.Cut(rest[1:], "}")
	if !ok {
		return part, "", fmt.Errorf("%%%c{ has no closing brace; write %%{ for a brace behind a verb", verb)
	}
	var err error
	if strings.IndexByte(textVerbs, verb) >= 0 {
		part.text, err = parseTextEncoding(modifier)
	} else {
		part.number, err = parseNumberEncoding(modifier)
	}
	if err != nil {
		return part, "", fmt.Errorf("%%%c{%s}: %w", verb, modifier, err)
	}
	return part, rest, nil
}

// cutBraces splits "{…}…" behind a verb, minding braces inside. Braces that are text are escaped as %{ and %}.
func cutBraces(verb byte, s string) (inner, rest string, err error) {
	if !strings.HasPrefix(s, "{") {
		return "", "", fmt.Errorf("%%%c wants braces that say how each header looks: %%h{%%k=%%v }", verb)
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '%', '\\':
			i++ // whatever it is, it is not a brace of ours
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:], nil
			}
		}
	}
	return "", "", fmt.Errorf("%%%c{ has no closing brace", verb)
}

// cutTimeLayout splits "go[layout]}…" and "strftime[layout]}…". The layout stands between any number of the same
// bracket, brace, parenthesis or other byte, such as ##…##, so that it can hold every byte.
func cutTimeLayout(s string) (style timeStyle, layout, rest string, ok bool, err error) {
	var name string
	switch {
	case strings.HasPrefix(s, "go"):
		style, name = timeGo, "go"
	case strings.HasPrefix(s, "strftime"):
		style, name = timeStrftime, "strftime"
	default:
		return 0, "", s, false, nil
	}
	s = s[len(name):]
	if s == "" || s[0] == '}' {
		return 0, "", "", false, fmt.Errorf("%%d{%s} wants a layout: %%d{%s[…]}", name, name)
	}
	n := 1
	for n < len(s) && s[n] == s[0] {
		n++
	}
	closing := strings.Repeat(string(closer(s[0])), n)
	layout, rest, found := strings.Cut(s[n:], closing)
	if !found || !strings.HasPrefix(rest, "}") {
		return 0, "", "", false, fmt.Errorf("%%d{%s…: the layout does not end with %s}", name, closing)
	}
	if style == timeStrftime {
		if err := checkStrftime(layout); err != nil {
			return 0, "", "", false, err
		}
	}
	return style, layout, rest[1:], true, nil
}

func closer(open byte) byte {
	switch open {
	case '[':
		return ']'
	case '{':
		return '}'
	case '(':
		return ')'
	}
	return open
}

// textEncoding is how bytes are shown.
type textEncoding uint8

const (
	textPlain textEncoding = iota
	textHex
	textBase64
	textBase64Raw
)

func parseTextEncoding(s string) (textEncoding, error) {
	switch s {
	case "":
		return textPlain, nil
	case "hex":
		return textHex, nil
	case "base64":
		return textBase64, nil
	case "base64raw":
		return textBase64Raw, nil
	}
	return 0, errors.New("unknown text encoding; use hex, base64 or base64raw")
}

// numberEncoding is how a number is shown.
type numberEncoding struct {
	kind numberKind
	size int // bits of hex, big and little; digits of numberDigits
}

type numberKind uint8

const (
	numberASCII  numberKind = iota // decimal, as long as need be
	numberDigits                   // decimal, exactly size characters
	numberHexAny                   // hexadecimal, as long as need be; for printing only
	numberHex
	numberBig
	numberLittle
	numberBool
)

func parseNumberEncoding(s string) (numberEncoding, error) {
	switch s {
	case "", "ascii", "number":
		return numberEncoding{}, nil
	case "hex":
		return numberEncoding{kind: numberHexAny}, nil
	case "byte":
		return numberEncoding{kind: numberBig, size: 8}, nil
	case "bool":
		return numberEncoding{kind: numberBool}, nil
	case "hex4":
		return numberEncoding{kind: numberHex, size: 4}, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 19 {
		return numberEncoding{kind: numberDigits, size: n}, nil
	}
	for _, k := range []struct {
		prefix string
		kind   numberKind
	}{{"hex", numberHex}, {"big", numberBig}, {"little", numberLittle}} {
		bits, ok := strings.CutPrefix(s, k.prefix)
		if !ok {
			continue
		}
		switch bits {
		case "8":
			return numberEncoding{kind: k.kind, size: 8}, nil
		case "16":
			return numberEncoding{kind: k.kind, size: 16}, nil
		case "32":
			return numberEncoding{kind: k.kind, size: 32}, nil
		case "64":
			return numberEncoding{kind: k.kind, size: 64}, nil
		}
	}
	return numberEncoding{}, errors.New("unknown number encoding; use ascii, hex, hex4 … hex64, big8 … big64, little8 … little64, byte, bool or a count of digits")
}
