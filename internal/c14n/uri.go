package c14n

import "strings"

// absoluteURI reports whether s is a URI with a scheme, perhaps with a fragment: RFC
// 3986 appendix A. What is inside the brackets of an address is not looked into.
func absoluteURI(s string) bool {
	scheme, rest, found := strings.Cut(s, ":")
	if !found || scheme == "" || !isLetter(scheme[0]) {
		return false
	}
	for i := range len(scheme) {
		if c := scheme[i]; !isLetter(c) && !isDigit(c) && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	if path, found := strings.CutPrefix(rest, "//"); found {
		rest = path[len(path):]
		if i := strings.IndexByte(path, '/'); i >= 0 {
			path, rest = path[:i], path[i:]
		}
		if !isAuthority(path) {
			return false
		}
	}
	return ofURI(rest, ":@/") && ofURI(query, ":@/?") && ofURI(fragment, ":@/?")
}

// isAuthority: RFC 3986 section 3.2.
func isAuthority(s string) bool {
	if user, host, found := strings.Cut(s, "@"); found {
		if !ofURI(user, ":") {
			return false
		}
		s = host
	}
	host, port := s, ""
	if address, rest, found := strings.Cut(s, "]"); found && strings.HasPrefix(address, "[") {
		if !ofURI(address[1:], ":") || rest != "" && rest[0] != ':' {
			return false
		}
		host, port = "", strings.TrimPrefix(rest, ":")
	} else {
		host, port, _ = strings.Cut(s, ":")
	}
	for i := range len(port) {
		if !isDigit(port[i]) {
			return false
		}
	}
	return ofURI(host, "")
}

// ofURI reports whether s is of unreserved characters, sub-delims, percent-encoded
// octets and the others.
func ofURI(s, others string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isLetter(c), isDigit(c), strings.IndexByte("-._~!$&'()*+,;=", c) >= 0, strings.IndexByte(others, c) >= 0:
		case c == '%' && i+2 < len(s) && isHexadecimal(s[i+1]) && isHexadecimal(s[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

func isLetter(c byte) bool      { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool       { return c >= '0' && c <= '9' }
func isHexadecimal(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
