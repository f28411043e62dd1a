// Package c14n reads XML strictly and writes its exclusive canonical form.
//
// Parse decides whether bytes are a document that can be signed and checked: XML 1.0
// (fifth edition) in UTF-8, Namespaces in XML 1.0 (third edition), without a document
// type declaration. What it refuses, it refuses with an *Error that names the rule and
// the place. What it accepts means the same to every conforming reader: there are no
// entities but the five predefined ones, no defaults and no types from elsewhere.
//
//	doc, err := c14n.Parse(message, c14n.Options{})
//	...
//	canonical := doc.Root.Canonical(nil)
//
// Element.Canonical writes Exclusive XML Canonicalization 1.0 without comments
// (http://www.w3.org/2001/10/xml-exc-c14n#, no InclusiveNamespaces PrefixList) of any
// element where it stands: nothing is written out and parsed again.
//
// Stricter than XML 1.0 asks: a namespace name has to be an absolute URI, because
// Canonical XML fails on relative ones (Canonical XML 1.0, section 1.3), elements nest
// at most 64 deep, a character reference has at most 8 digits, and a document has a
// size limit.
//
// A Document does not change after Parse; any number of goroutines may read it.
package c14n
