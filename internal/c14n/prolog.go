package c14n

import "strings"

// declaration reads the XML declaration at i, where there is one: XML 1.0 production 23.
func (p *parser) declaration(i int) (int, error) {
	s := p.source
	const start = "<?xml"
	if !strings.HasPrefix(s[i:], start) || ncName(s, i+len("<?")) != i+len(start) || strings.HasPrefix(s[i:], start+":") {
		return i, nil
	}
	i += len(start)
	i, version, found, err := p.pseudoAttribute(i, "version")
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, p.fail(RuleDeclaration, i, `the XML declaration, expected version="1.0" in it first`)
	case version != "1.0":
		return 0, p.fail(RuleDeclaration, i-len(version)-1, "version %s, expected 1.0", quote(version))
	}
	i, encoding, found, err := p.pseudoAttribute(i, "encoding")
	switch {
	case err != nil:
		return 0, err
	case found && !strings.EqualFold(encoding, "UTF-8"):
		return 0, p.fail(RuleEncoding, i-len(encoding)-1, "the declared encoding %s, expected UTF-8", quote(encoding))
	}
	i, standalone, found, err := p.pseudoAttribute(i, "standalone")
	switch {
	case err != nil:
		return 0, err
	case found && standalone != "yes" && standalone != "no":
		return 0, p.fail(RuleDeclaration, i-len(standalone)-1, "standalone %s, expected yes or no", quote(standalone))
	}
	i = skipSpace(s, i)
	if !strings.HasPrefix(s[i:], "?>") {
		return 0, p.fail(RuleDeclaration, i, "the XML declaration goes on, expected version, encoding, standalone in this order and ?>")
	}
	return i + len("?>"), nil
}

// pseudoAttribute reads S name Eq value, if the name is there, and the offset after it;
// if not, the offset is i.
func (p *parser) pseudoAttribute(i int, name string) (end int, value string, found bool, err error) {
	s := p.source
	j := skipSpace(s, i)
	if j == i || !strings.HasPrefix(s[j:], name) {
		return i, "", false, nil
	}
	j = skipSpace(s, j+len(name))
	if j == len(s) || s[j] != '=' {
		return 0, "", false, p.fail(RuleDeclaration, j, "no = after %s", name)
	}
	if j = skipSpace(s, j+1); j == len(s) || s[j] != '"' && s[j] != '\'' {
		return 0, "", false, p.fail(RuleDeclaration, j, "no quoted value of %s", name)
	}
	n := strings.IndexByte(s[j+1:], s[j])
	if n < 0 {
		return 0, "", false, p.fail(RuleDeclaration, j, "the value of %s does not end", name)
	}
	return j + 1 + n + 1, s[j+1 : j+1+n], true, nil
}
