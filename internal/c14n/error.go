package c14n

import "fmt"

// Rule is the rule that a document breaks.
type Rule string

const (
	RuleSize         Rule = "document too large"
	RuleEncoding     Rule = "encoding"                // other than UTF-8, declared or found
	RuleDeclaration  Rule = "XML declaration"         // XML 1.0 section 2.8
	RuleDoctype      Rule = "document type"           // any <!DOCTYPE
	RuleCharacter    Rule = "illegal character"       // XML 1.0 section 2.2, also as a reference
	RuleEntity       Rule = "entity"                  // none but amp, lt, gt, apos, quot
	RuleReference    Rule = "reference"               // & that begins neither an entity nor a character reference
	RuleName         Rule = "name"                    // Namespaces in XML 1.0 sections 4 and 7
	RuleComment      Rule = "comment"                 // XML 1.0 section 2.5
	RuleInstruction  Rule = "processing instruction"  // XML 1.0 section 2.6
	RuleAttribute    Rule = "attribute syntax"        // XML 1.0 section 3.1
	RuleDuplicate    Rule = "duplicate attribute"     // by name, or by expanded name
	RulePrefix       Rule = "undeclared prefix"       // Namespaces in XML 1.0 section 5
	RuleUndeclared   Rule = "prefix bound to nothing" // xmlns:p="", Namespaces in XML 1.0 section 5
	RuleReserved     Rule = "rebound xml or xmlns"    // Namespaces in XML 1.0 section 3
	RuleNamespaceURI Rule = "namespace name"          // not an absolute URI, Canonical XML 1.0 section 1.3
	RuleNesting      Rule = "nesting"                 // an end tag that does not match
	RuleDepth        Rule = "depth"                   // more than 64 elements within one another
	RuleRoots        Rule = "more than one root"
	RuleOutside      Rule = "text outside the root"
	RuleTruncated    Rule = "truncated"
	RuleMarkup       Rule = "not well-formed" // every other break of XML 1.0's grammar
)

// Error is why and where a document is refused.
type Error struct {
	Rule   Rule
	Line   int    // of the source, from 1
	Column int    // in bytes, from 1
	Offset int    // in bytes, from 0
	Detail string // what is there and what was expected; it quotes names, never text
}

func (e *Error) Error() string {
	return fmt.Sprintf("c14n: line %d, column %d, offset %d: %s: %s", e.Line, e.Column, e.Offset, e.Rule, e.Detail)
}

// quote shows a name that may be of any length.
func quote(name string) string {
	const most = 60
	if len(name) <= most {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q…", name[:most])
}

// position is the line and the column of an offset. Lines end in LF, CRLF or CR (XML
// 1.0 section 2.11).
func position[S ~string | ~[]byte](source S, offset int) (line, column int) {
	offset = max(0, min(offset, len(source)))
	line, start := 1, 0
	for i := range offset {
		if source[i] == '\n' || source[i] == '\r' && (i+1 == len(source) || source[i+1] != '\n') {
			line, start = line+1, i+1
		}
	}
	return line, offset - start + 1
}
