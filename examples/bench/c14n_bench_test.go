//go:build cgo && unix

package bench

import (
	"bytes"
	"os"
	"testing"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/c14n"
	"github.com/rxguard/rxguard/internal/need"
)

// BenchmarkC14N: exclusive C14N of a prescription of 12 kB, reading it included, and of
// 10 MB of them in one message, beside libxml2 in this process and, for the one
// prescription, goxmldsig, which reads with etree.
func BenchmarkC14N(b *testing.B) {
	require.NoError(b, loadLibxml2(need.File(b, "the library libxml2", "libxml2",
		"/usr/lib/*-linux-gnu*/libxml2.so*", "/usr/lib64/libxml2.so*", "/usr/lib/libxml2.so*", "/usr/local/lib/libxml2.so*",
		"/opt/homebrew/opt/libxml2/lib/libxml2.dylib", "/usr/lib/libxml2.dylib")))
	one, err := os.ReadFile("../../internal/c14n/testdata/prescription.xml")
	require.NoError(b, err)
	_, root, found := bytes.Cut(one, []byte("?>"))
	require.True(b, found)
	many := append(append([]byte("<batch>"), bytes.Repeat(root, 850)...), "</batch>"...)

	perByte := map[int]float64{}
	for _, source := range [][]byte{one, many} {
		name := "12kB"
		if len(source) > len(one) {
			name = "10MB"
		}
		b.Run(name, func(b *testing.B) {
			ours, libxml2 := ourC14N(source), libxml2C14N(source)
			peers := []*peer{ours, libxml2}
			requireSame(b, source)
			var other *peer
			if len(source) == len(one) {
				if other = goxmldsigC14N(b, source); other != nil {
					peers = append(peers, other)
				}
			}
			turns(b, peers...)
			for _, p := range peers {
				b.ReportMetric(p.µs(1), p.name+"-µs")
			}
			b.ReportMetric(ours.µs(1)/libxml2.µs(1), "of-libxml2(goal:1)")
			if other != nil {
				b.ReportMetric(ours.µs(1)/other.µs(1), "of-goxmldsig")
				b.ReportMetric(goxmldsigInPlace(b, source), "%right-in-place-by-goxmldsig")
			}
			if perByte[len(source)] = ours.µs(1) / float64(len(source)); perByte[len(one)] > 0 {
				b.ReportMetric(perByte[len(source)]/perByte[len(one)], "time-a-byte-of-12kB(goal:1)")
			}
		})
	}
}

func ourC14N(source []byte) *peer {
	var form []byte
	return &peer{name: "rxguard", sign: func() error {
		d, err := c14n.Parse(source, c14n.Options{MaxBytes: len(source)})
		if err == nil {
			form = d.Canonical(form[:0])
		}
		return err
	}}
}

func libxml2C14N(source []byte) *peer {
	return &peer{name: "libxml2", sign: func() error { return canonicalLibxml2(source, nil) }}
}

// requireSame compares the bytes before the times.
func requireSame(b *testing.B, source []byte) {
	b.Helper()
	d, err := c14n.Parse(source, c14n.Options{MaxBytes: len(source)})
	require.NoError(b, err)
	form := d.Canonical(nil)
	require.NoError(b, canonicalLibxml2(source, func(theirs []byte) {
		require.True(b, bytes.Equal(theirs, form), "libxml2 writes other bytes")
	}))
}

func goxmldsigForm(element *etree.Element) ([]byte, error) {
	return dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(element)
}

// goxmldsigC14N is nil if goxmldsig writes other bytes.
func goxmldsigC14N(b *testing.B, source []byte) *peer {
	b.Helper()
	var form []byte
	p := &peer{name: "goxmldsig", sign: func() error {
		read := etree.NewDocument()
		err := read.ReadFromBytes(source)
		if err == nil {
			form, err = goxmldsigForm(read.Root())
		}
		return err
	}}
	d, err := c14n.Parse(source, c14n.Options{})
	require.NoError(b, err)
	if err := p.sign(); err != nil || !bytes.Equal(form, d.Root.Canonical(nil)) {
		b.Logf("goxmldsig does not write the canonical form of this document: %v", err)
		return nil
	}
	return p
}

// goxmldsigInPlace is how many per cent of the elements goxmldsig writes as they are
// written in place.
func goxmldsigInPlace(b *testing.B, source []byte) float64 {
	b.Helper()
	d, err := c14n.Parse(source, c14n.Options{})
	require.NoError(b, err)
	read := etree.NewDocument()
	require.NoError(b, read.ReadFromBytes(source))
	right, all := 0, 0
	var walk func(*c14n.Element, *etree.Element)
	walk = func(ours *c14n.Element, theirs *etree.Element) {
		all++
		if form, err := goxmldsigForm(theirs); err == nil && bytes.Equal(form, ours.Canonical(nil)) {
			right++
		}
		i, children := 0, theirs.ChildElements()
		for c := range ours.Elements() {
			walk(c, children[i])
			i++
		}
	}
	walk(d.Root, read.Root())
	return 100 * float64(right) / float64(all)
}
