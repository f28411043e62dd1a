package c14n

import "strings"

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// use is what an element or an attribute makes of its prefix, for Exclusive XML
// Canonicalization 1.0 section 3: the depth of the nearest ancestor that visibly
// utilizes the prefix too, 0 if there is none, and whether it means the same by it.
type use uint8

const (
	sameSpace  use = 1 << 7
	useNothing use = sameSpace | maxDepth + 1 // as if declared around every element
)

// renders reports whether the namespace declaration is written when the element of
// this depth is the outermost that is: when no element around it wrote it and, for
// xmlns="", when there is one to undo.
func (u use) renders(space string, outermost uint8) bool {
	if uint8(u&^sameSpace) >= outermost {
		return u&sameSpace == 0
	}
	return space != ""
}

// prefix is what is known of one where the parser is.
type prefix struct {
	name     string
	space    string
	bound    bool
	declared int    // 1 + offset of the tag that declared it last
	used     uint8  // depth of the innermost open element that visibly utilizes it
	means    string // and what it means there
}

// namespaces are the prefixes of a document, in the order in which they first appear.
// The default namespace is the prefix "", the first of them. Looking one up takes the
// same time however many there are.
type namespaces struct {
	prefixes []prefix
	index    map[string]int // of the prefixes, once there are many
	rebound  []rebinding    // what to put back when elements close
	used     []utilization
}

type rebinding struct {
	prefix int
	space  string
	bound  bool
}

type utilization struct {
	prefix int
	used   uint8
	means  string
}

const fewPrefixes = 8

// find returns the prefix's index, or -1.
func (n *namespaces) find(name string) int {
	if n.index == nil {
		for i := range n.prefixes {
			if n.prefixes[i].name == name {
				return i
			}
		}
		return -1
	}
	if i, found := n.index[name]; found {
		return i
	}
	return -1
}

func (n *namespaces) add(name string) int {
	i := len(n.prefixes)
	n.prefixes = append(n.prefixes, prefix{name: name})
	switch {
	case n.index != nil:
		n.index[name] = i
	case i == fewPrefixes:
		n.index = make(map[string]int)
		for j := range n.prefixes {
			n.index[n.prefixes[j].name] = j
		}
	}
	return i
}

// look returns what a prefix means in an element of this depth, all of whose
// declarations are known, and counts it as visibly utilized there.
func (n *namespaces) look(name string, depth uint8) (space string, u use, ok bool) {
	if name == "xml" {
		return xmlSpace, useNothing, true // is never written
	}
	i := n.find(name)
	if i < 0 {
		if name != "" {
			return "", 0, false
		}
		i = n.add("")
	}
	p := &n.prefixes[i]
	switch {
	case !p.bound && name != "":
		return "", 0, false
	case p.used == depth:
		return p.space, useNothing, true
	}
	u = use(p.used)
	if p.used > 0 && p.means == p.space {
		u |= sameSpace
	}
	n.used = append(n.used, utilization{i, p.used, p.means})
	p.used, p.means = depth, p.space
	return p.space, u, true
}

// leave forgets what was declared and utilized since the logs were that long.
func (n *namespaces) leave(rebound, used int) {
	for i := len(n.used) - 1; i >= used; i-- {
		p := &n.prefixes[n.used[i].prefix]
		p.used, p.means = n.used[i].used, n.used[i].means
	}
	n.used = n.used[:used]
	for i := len(n.rebound) - 1; i >= rebound; i-- {
		p := &n.prefixes[n.rebound[i].prefix]
		p.space, p.bound = n.rebound[i].space, n.rebound[i].bound
	}
	n.rebound = n.rebound[:rebound]
}

// declare brings the declaration of the attribute at i into force: Namespaces in XML
// 1.0 sections 2.2, 3 and 5.
func (p *parser) declare(name, space string, i int) error {
	n := &p.namespaces
	switch {
	case name == "xmlns":
		return p.fail(RuleReserved, i, "a declaration of the prefix xmlns, which cannot be declared")
	case name == "xml" && space != xmlSpace:
		return p.fail(RuleReserved, i, "the prefix xml bound to another namespace than %s", xmlSpace)
	case name != "xml" && space == xmlSpace:
		return p.fail(RuleReserved, i, "the namespace %s bound to another prefix than xml", xmlSpace)
	case space == xmlnsSpace:
		return p.fail(RuleReserved, i, "a declaration of the namespace %s, which cannot be declared", xmlnsSpace)
	case name != "" && space == "":
		return p.fail(RuleUndeclared, i, "the prefix %s bound to no namespace, which only xmlns=\"\" can do", quote(name))
	}
	id := n.find(name)
	if id < 0 {
		id = n.add(name)
	}
	b := &n.prefixes[id]
	tag := p.open[len(p.open)-1].element.Start + 1
	if b.declared == tag {
		return p.fail(RuleDuplicate, i, "a second declaration %s", quote(strings.TrimSuffix("xmlns:"+name, ":")))
	}
	b.declared = tag
	if space != b.space || !b.bound {
		if space != "" && !absoluteURI(space) {
			return p.fail(RuleNamespaceURI, i, "the namespace name %s is not an absolute URI, as Canonical XML needs it", quote(space))
		}
		n.rebound = append(n.rebound, rebinding{id, b.space, b.bound})
		b.space, b.bound = space, true
	}
	return nil
}
