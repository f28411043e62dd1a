package c14n

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEachOutermostElementIsHandedOver(t *testing.T) {
	const in = `<r xmlns="urn:r"><p a="1"><p>inner</p></p><q><x:p xmlns:x="urn:x">two</x:p></q><p/></r>`
	var got []string
	d, err := ParseEach([]byte(in), Options{}, "p", func(d *Document, e *Element) error {
		line, column := d.Position(e.Start)
		got = append(got, fmt.Sprintf("%d:%d %s %s", line, column, e.Canonical(nil), d.Source()[e.Start:e.End]))
		return nil
	})
	require.NoError(t, err)
	whole, err := Parse([]byte(in), Options{})
	require.NoError(t, err)
	var want []string
	var find func(*Element)
	find = func(e *Element) {
		if e.Name.Local == "p" {
			_, column := whole.Position(e.Start)
			want = append(want, fmt.Sprintf("1:%d %s %s", column, e.Canonical(nil), in[e.Start:e.End]))
			return
		}
		for c := range e.Elements() {
			find(c)
		}
	}
	find(whole.Root)
	require.Len(t, want, 3)
	assert.Equal(t, want, got)
	for c := range d.Root.Elements() {
		if c.Name.Local == "p" {
			assert.Empty(t, c.Children)
			assert.Empty(t, c.Attrs)
		}
	}
}

func TestTheRootCanBeTheOne(t *testing.T) {
	n := 0
	_, err := ParseEach([]byte(`<p><p/></p>`), Options{}, "p", func(_ *Document, e *Element) error {
		n++
		assert.Len(t, e.Children, 1)
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

func TestAnErrorEndsTheReading(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	d, err := ParseEach([]byte(`<r><p/><p/></r>`), Options{}, "p", func(*Document, *Element) error { n++; return stop })
	assert.ErrorIs(t, err, stop)
	assert.Nil(t, d)
	assert.Equal(t, 1, n)

	n = 0
	_, err = ParseEach([]byte(`<r><p/><p/></q>`), Options{}, "p", func(*Document, *Element) error { n++; return nil })
	var e *Error
	assert.ErrorAs(t, err, &e, "the end was not well-formed, and so nothing counts")
	assert.Equal(t, 2, n)
}

// TestManyNeedTheMemoryOfOne looks at what is live while the last is handed over.
func TestManyNeedTheMemoryOfOne(t *testing.T) {
	one := "<p>" + strings.Repeat(`<a b="c">d</a>`, 2000) + "</p>"
	live := func(n int) uint64 {
		doc := []byte("<r>" + strings.Repeat(one, n) + "</r>")
		seen := 0
		var before, at runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := ParseEach(doc, Options{MaxBytes: len(doc)}, "p", func(*Document, *Element) error {
			if seen++; seen == n {
				runtime.GC()
				runtime.ReadMemStats(&at)
			}
			return nil
		})
		require.NoError(t, err)
		return at.HeapAlloc - before.HeapAlloc - uint64(len(doc)) // the parser's copy
	}
	few, many := live(2), live(200)
	assert.Less(t, many, 2*few+1<<20, "2: %d bytes, 200: %d bytes", few, many)
}
