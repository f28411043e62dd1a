package advisory

import (
	"errors"
	"iter"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Set is a rule set: all the advisories of one issue, at least one. It is
// immutable, and safe for concurrent use; the advisories in it must not be
// changed.
type Set struct {
	version    uint64
	issued     time.Time
	advisories []*Advisory
	byID       map[string]*Advisory
	index      index
}

// NewSet puts advisories together, in the order given. Version counts up from 1;
// issued is when this version was made. An advisory that Parse would reject, an
// id that occurs twice, and a superseded_by that names no advisory of the set, one
// that was never enforced, or leads in a circle reject the whole set. The error is an *[Error].
func NewSet(version uint64, issued time.Time, advisories ...*Advisory) (*Set, error) {
	s := &Set{
		version:    version,
		issued:     issued,
		advisories: slices.Clone(advisories),
		byID:       make(map[string]*Advisory, len(advisories)),
	}
	switch {
	case version == 0:
		return nil, problem("", "found set version 0, wanted 1 or more")
	case issued.IsZero():
		return nil, problem("", "found a set without the instant of its issue, wanted one")
	case len(advisories) == 0:
		return nil, problem("", "found an empty set, wanted at least one advisory: rules never go back to none")
	}
	for i, a := range advisories {
		if a == nil {
			return nil, problem("", "found nil as the advisory at index %d, wanted one that Parse returned", i)
		}
		if err := a.check(); err != nil {
			if err.Path != "id" {
				err.ID = a.ID
			}
			return nil, err
		}
		if s.byID[a.ID] != nil {
			return nil, &Error{ID: a.ID, Path: "id", Problem: "found in two advisories of one set, wanted each id once"}
		}
		s.byID[a.ID] = a
	}
	sound := make(map[string]bool)
	for _, a := range advisories {
		if err := s.checkSuccession(a, sound); err != nil {
			return nil, err
		}
	}
	s.index = newIndex(s.advisories)
	return s, nil
}

// checkSuccession follows the successors of a up to those in sound, and adds what
// it saw to them.
func (s *Set) checkSuccession(a *Advisory, sound map[string]bool) *Error {
	seen := map[string]bool{}
	for next := a; next.State == Superseded && !sound[next.ID]; {
		seen[next.ID] = true
		successor := s.byID[next.SupersededBy]
		switch {
		case successor == nil:
			return &Error{ID: next.ID, Path: "superseded_by",
				Problem: "found " + quote(next.SupersededBy) + ", which is not in the set, wanted the id of another of its advisories"}
		case seen[successor.ID]:
			return &Error{ID: next.ID, Path: "superseded_by",
				Problem: "found " + quote(next.SupersededBy) + ", which leads back to this advisory, wanted one that is not superseded in the end"}
		case successor.State == Draft || successor.State == Shadow:
			// Superseding would quietly end the rule.
			return &Error{ID: next.ID, Path: "superseded_by",
				Problem: "found " + quote(next.SupersededBy) + ", which is " + string(successor.State) + " and enforces nothing, wanted one that is or was enforced"}
		}
		next = successor
	}
	maps.Copy(sound, seen)
	return nil
}

// ParseSet parses documents, by name, and puts the advisories together in the
// order of the names. One bad document rejects the whole set; the error, an
// *[Error], names it.
func ParseSet(version uint64, issued time.Time, docs map[string][]byte, files Files) (*Set, error) {
	names := slices.Sorted(maps.Keys(docs))
	advisories := make([]*Advisory, len(names))
	for i, name := range names {
		a, err := Parse(docs[name], files)
		if err != nil {
			return nil, named(err, name)
		}
		advisories[i] = a
	}
	s, err := NewSet(version, issued, advisories...)
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.ID != "" {
			// The last of two documents with one id is the one too many.
			for i := len(advisories) - 1; i >= 0; i-- {
				if advisories[i].ID == e.ID {
					return nil, named(err, names[i])
				}
			}
		}
		return nil, err
	}
	return s, nil
}

func named(err error, document string) error {
	var e *Error
	if errors.As(err, &e) {
		e.Document = document
	}
	return err
}

// All yields the advisories in the order of the set.
func (s *Set) All() iter.Seq[*Advisory] { return slices.Values(s.advisories) }

// Len is how many advisories the set has, at least one.
func (s *Set) Len() int { return len(s.advisories) }

// At returns the advisory at index i, from 0 to Len()-1.
func (s *Set) At(i int) *Advisory { return s.advisories[i] }

// ByID returns the advisory with the id, or nil.
func (s *Set) ByID(id string) *Advisory { return s.byID[id] }

// Version is the set's number, 1 or more.
func (s *Set) Version() uint64 { return s.version }

// Issued is when this version of the set was made.
func (s *Set) Issued() time.Time { return s.issued }

// Current returns the set itself, so that a fixed set serves wherever a source of
// sets is wanted.
func (s *Set) Current() *Set { return s }

// Follows tells whether the set may take the place of old: nil when it may, else
// an *[Error] that names the advisory. Rules never go backwards: not in version,
// date or revision; content changes only with a new version and a new revision;
// an advisory leaves active by being resolved, withdrawn or superseded, never by
// vanishing or falling back to draft or shadow; and an ended one never comes back
// under its id. Any set follows nil.
func (s *Set) Follows(old *Set) error {
	if old == nil {
		return nil
	}
	switch {
	case s.version < old.version:
		return problem("", "found set version %d after version %d, wanted the same or a higher one", s.version, old.version)
	case s.issued.Before(old.issued):
		return problem("", "found a set issued %s after one issued %s, wanted the same or a later instant", show(s.issued), show(old.issued))
	}
	for _, was := range old.advisories {
		if err := s.followsIn(was); err != nil {
			err.ID = was.ID
			return err
		}
		if now := s.byID[was.ID]; s.version == old.version && (now == nil || !reflect.DeepEqual(was, now)) {
			return &Error{ID: was.ID, Problem: "found other content in a set of the same version, wanted a higher version"}
		}
	}
	for _, now := range s.advisories {
		if s.version == old.version && old.byID[now.ID] == nil {
			return &Error{ID: now.ID, Problem: "found a new advisory in a set of the same version, wanted a higher version"}
		}
	}
	return nil
}

func (s *Set) followsIn(was *Advisory) *Error {
	now := s.byID[was.ID]
	switch {
	case now == nil && was.State == Active:
		return problem("", "found it gone while it is active, wanted it resolved, withdrawn or superseded")
	case now == nil:
		return nil
	case now.Revision < was.Revision:
		return problem("revision", "found %d after %d, wanted the same or a higher one", now.Revision, was.Revision)
	case was.State.ended() && !now.State.ended():
		return problem("state", "found %s after %s, wanted a new id: an ended advisory does not come back", now.State, was.State)
	case was.State == Active && !now.State.ended() && now.State != Active:
		return problem("state", "found %s after active, wanted it resolved, withdrawn or superseded", now.State)
	case now.Revision == was.Revision && !reflect.DeepEqual(was, now):
		return problem("revision", "found %d again with other content, wanted a higher one", now.Revision)
	}
	return nil
}

// Clone returns a set of the same content that shares nothing which a holder of s
// can change. A Guard judges by its own.
func (s *Set) Clone() *Set {
	c := &Set{version: s.version, issued: s.issued, byID: make(map[string]*Advisory, len(s.advisories))}
	for _, a := range s.advisories {
		own := a.clone()
		c.advisories = append(c.advisories, own)
		c.byID[own.ID] = own
	}
	c.index = newIndex(c.advisories)
	return c
}

func (a *Advisory) clone() *Advisory {
	c := *a
	c.Match, c.Except, c.FixedWhen = cloneClauses(a.Match), cloneClauses(a.Except), cloneClauses(a.FixedWhen)
	c.Remedies = slices.Clone(a.Remedies)
	c.References = slices.Clone(a.References)
	return &c
}

func cloneClauses(clauses []Clause) []Clause {
	out := slices.Clone(clauses)
	for i := range out {
		c := &out[i]
		c.Issuer, c.NotBefore, c.KeyBits = pointee(c.Issuer), pointee(c.NotBefore), pointee(c.KeyBits)
		if c.Issuer != nil {
			c.Issuer.SPKISHA256 = slices.Clone(c.Issuer.SPKISHA256)
			c.Issuer.AKI = slices.Clone(c.Issuer.AKI)
			for j := range c.Issuer.AKI {
				c.Issuer.AKI[j] = slices.Clone(c.Issuer.AKI[j])
			}
		}
		// Serials have no exported fields: nobody can change them.
		c.SPKISHA256, c.ModulusSHA256 = slices.Clone(c.SPKISHA256), slices.Clone(c.ModulusSHA256)
		c.WeakKey, c.PolicyOID = slices.Clone(c.WeakKey), slices.Clone(c.PolicyOID)
		c.KeyUsage, c.SignatureAlgorithm = slices.Clone(c.KeyUsage), slices.Clone(c.SignatureAlgorithm)
	}
	return out
}

// pointee copies what p points to.
func pointee[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
