package render

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// appendJSONString writes a JSON string. Beside what JSON wants it escapes DEL, the control characters from U+0080 to U+009F and
// the line separators U+2028 and U+2029, which terminals and JavaScript take amiss.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f {
			i++
			continue
		}
		var escape string
		width := 1
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
		default:
			if c >= utf8.RuneSelf {
				var r rune
				r, width = utf8.DecodeRuneInString(s[i:])
				switch {
				case r == utf8.RuneError && width == 1:
					escape = "\uFFFD"
				case r < 0xa0: // C1, which some terminals obey
					escape = `\u00` + string(hexDigits[r>>4]) + string(hexDigits[r&15])
				case r == 0x2028:
					escape = `\u2028`
				case r == 0x2029:
					escape = `\u2029`
				default:
					i += width
					continue
				}
				break
			}
			dst = append(append(dst, s[done:i]...), '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		if escape != "" {
			dst = append(append(dst, s[done:i]...), escape...)
		}
		i += width
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}

// appendValid copies s, with U+FFFD for what is no UTF-8.
func appendValid(dst []byte, s string) []byte {
	if utf8.ValidString(s) {
		return append(dst, s...)
	}
	for _, r := range s { // what is no UTF-8 comes as U+FFFD
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
