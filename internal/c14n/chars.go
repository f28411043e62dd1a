package c14n

import "unicode/utf8"

// What a byte is to the scanner.
const (
	nameStart uint8 = 1 << iota // begins an NCName
	nameChar                    // goes on with one
	beyond                      // part of a character beyond ASCII
	space                       // S, XML 1.0 section 2.3
	textStop                    // character data is looked at here
	valueStop                   // an attribute value is looked at here
	illegal                     // no Char, XML 1.0 section 2.2
)

var class = func() (c [256]uint8) {
	for b := range c {
		switch {
		case b >= utf8.RuneSelf:
			c[b] = beyond
		case b == '_', b|0x20 >= 'a' && b|0x20 <= 'z':
			c[b] = nameStart | nameChar
		case b == '-', b == '.', b >= '0' && b <= '9':
			c[b] = nameChar
		case b == ' ':
			c[b] = space
		case b == '\t', b == '\n', b == '\r':
			c[b] = space | valueStop
		case b < ' ':
			c[b] = illegal | textStop | valueStop
		}
	}
	for _, b := range "<&]>\r" {
		c[b] |= textStop
	}
	for _, b := range "<&\"'" {
		c[b] |= valueStop
	}
	return c
}()

// isChar: XML 1.0 section 2.2, production 2.
func isChar(r rune) bool {
	return r >= 0x20 && r <= 0xD7FF || r == '\t' || r == '\n' || r == '\r' ||
		r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}

// isNameStart: XML 1.0 (fifth edition) section 2.3, production 4, beyond ASCII.
func isNameStart(r rune) bool {
	switch {
	case r < 0xC0:
		return false
	case r <= 0x2FF:
		return r != 0xD7 && r != 0xF7
	case r < 0x370:
		return false
	case r <= 0x1FFF:
		return r != 0x37E
	}
	return r >= 0x200C && r <= 0x200D || r >= 0x2070 && r <= 0x218F || r >= 0x2C00 && r <= 0x2FEF ||
		r >= 0x3001 && r <= 0xD7FF || r >= 0xF900 && r <= 0xFDCF || r >= 0xFDF0 && r <= 0xFFFD ||
		r >= 0x10000 && r <= 0xEFFFF
}

// isNameChar: production 4a, beyond ASCII.
func isNameChar(r rune) bool {
	return isNameStart(r) || r == 0xB7 || r >= 0x300 && r <= 0x36F || r >= 0x203F && r <= 0x2040
}

// ncName returns the end of the NCName (Namespaces in XML 1.0, production 4) that begins
// at i, or i where none does.
func ncName(s string, i int) int {
	if i >= len(s) || class[s[i]]&(nameStart|beyond) == 0 {
		return i
	}
	if class[s[i]]&beyond != 0 {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !isNameStart(r) {
			return i
		}
		i += n
	} else {
		i++
	}
	for i < len(s) {
		switch c := class[s[i]]; {
		case c&nameChar != 0:
			i++
		case c&beyond != 0:
			r, n := utf8.DecodeRuneInString(s[i:])
			if !isNameChar(r) {
				return i
			}
			i += n
		default:
			return i
		}
	}
	return i
}

func skipSpace(s string, i int) int {
	for i < len(s) && class[s[i]]&space != 0 {
		i++
	}
	return i
}
