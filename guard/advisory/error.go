package advisory

import "fmt"

// Error says why a document or a set of documents was rejected. Every error of
// Parse, ParseSet, NewSet and Set.Follows is one.
type Error struct {
	Document string // name of the document, where ParseSet was given one
	ID       string // id of the advisory, as far as it was read
	Path     string // JSON path such as match.any[0].not_before.to; $ is the whole document; empty: the set
	Problem  string // what was found, and what was wanted
}

func (e *Error) Error() string {
	s := "advisory: "
	for _, part := range []string{e.Document, e.ID, e.Path} {
		if part != "" {
			s += part + ": "
		}
	}
	return s + e.Problem
}

func problem(path, format string, args ...any) *Error {
	return &Error{Path: path, Problem: fmt.Sprintf(format, args...)}
}

// quote shows text of a document, shortened, so that a hostile document does not
// become a hostile log line.
func quote(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%+q… (%d bytes)", s[:80], len(s))
	}
	return fmt.Sprintf("%+q", s)
}
