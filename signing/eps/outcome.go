package eps

import (
	"fmt"
	"strings"
)

// OutcomeError is a FHIR OperationOutcome where a $prepare answer was wanted: the
// service refused to prepare the prescription, and there is nothing to sign.
type OutcomeError struct {
	Issues []Issue `json:"issue"`
}

// Issue is one reason of an OperationOutcome (FHIR R4, OperationOutcome), as far as it could
// be read.
type Issue struct {
	Severity    string   `json:"severity"` // fatal, error, warning, information
	Code        string   `json:"code"`     // of the value set IssueType
	Codings     []Coding `json:"codings,omitempty"`
	Text        string   `json:"text,omitempty"` // details.text
	Diagnostics string   `json:"diagnostics,omitempty"`
	Expression  []string `json:"expression,omitempty"` // FHIRPath of what is at fault
}

// Coding is a reason in the service's own terms.
type Coding struct {
	System  string `json:"system,omitempty"`
	Code    string `json:"code,omitempty"`
	Display string `json:"display,omitempty"`
}

// newOutcomeError reads what it can: an outcome that is itself malformed is still
// a refusal.
func newOutcomeError(root map[string]any) *OutcomeError {
	e := &OutcomeError{}
	for _, o := range objects(root["issue"]) {
		details, _ := o["details"].(map[string]any)
		is := Issue{
			Severity:    text(o, "severity"),
			Code:        text(o, "code"),
			Text:        text(details, "text"),
			Diagnostics: text(o, "diagnostics"),
		}
		for _, c := range objects(details["coding"]) {
			is.Codings = append(is.Codings, Coding{System: text(c, "system"), Code: text(c, "code"), Display: text(c, "display")})
		}
		exprs, _ := o["expression"].([]any)
		for _, x := range exprs {
			if s, ok := x.(string); ok {
				is.Expression = append(is.Expression, s)
			}
		}
		e.Issues = append(e.Issues, is)
	}
	return e
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

func objects(v any) []map[string]any {
	list, _ := v.([]any)
	var out []map[string]any
	for _, x := range list {
		if o, ok := x.(map[string]any); ok {
			out = append(out, o)
		}
	}
	return out
}

// shownIssues bounds the error text; the field Issues holds them all.
const shownIssues = 5

// Error says that the service refused to prepare, and why.
func (e *OutcomeError) Error() string {
	var b strings.Builder
	b.WriteString("eps: the service refused to prepare the prescription (OperationOutcome): ")
	if len(e.Issues) == 0 {
		b.WriteString("it gave no reason")
	}
	for i, is := range e.Issues {
		if i == shownIssues {
			fmt.Fprintf(&b, "; and %d more", len(e.Issues)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(is.String())
	}
	b.WriteString("; correct what it names, then send the prescription to $prepare again")
	return b.String()
}

// String is the issue on one line, shortened where it is long.
func (is Issue) String() string {
	parts := []string{strings.TrimSpace(is.Severity + " " + is.Code)}
	for _, c := range is.Codings {
		parts = append(parts, strings.TrimSpace(c.Code+" "+c.Display))
	}
	parts = append(parts, is.Text, is.Diagnostics)
	var said []string
	for _, p := range parts {
		if p != "" {
			said = append(said, p)
		}
	}
	s := clip(strings.Join(said, ": "), 300)
	if len(is.Expression) > 0 {
		s += " (" + clip(strings.Join(is.Expression, ", "), 120) + ")"
	}
	return s
}
