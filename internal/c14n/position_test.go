package c14n

import "testing"

// TestPositionIsThatOfErrors: both count lines that end in LF, CRLF or CR.
func TestPositionIsThatOfErrors(t *testing.T) {
	for _, s := range []string{"", "a", "\n", "\r", "\r\n", "a\nb\r\nc\rd", "\r\r\n\n\r", "a\n\n"} {
		d := &Document{source: []byte(s)}
		for i := -1; i <= len(s)+1; i++ {
			line, column := d.Position(i)
			wantLine, wantColumn := position(s, i)
			if line != wantLine || column != wantColumn {
				t.Errorf("%q at %d: %d:%d, expected %d:%d", s, i, line, column, wantLine, wantColumn)
			}
		}
	}
}
