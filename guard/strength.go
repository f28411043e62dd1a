package guard

import (
	"crypto/rsa"
	"fmt"
	"strings"

	"github.com/rxguard/rxguard/guard/weakkey"
)

// judgeStrength reports what package weakkey found, and RSA keys that are small by the
// policy.
func (g *Guard) judgeStrength(fs []Finding, c *Certificate, key *weakkey.Result) []Finding {
	if key.Weak() {
		f := finding(WeakKey)
		f.Is = key.String()
		f.Wanted += ": " + strings.TrimSuffix(key.Weakness().Text(), ".") + " (" + key.Weakness().Source() + ")"
		fs = append(fs, f)
	}
	if !key.Judged {
		f := finding(KeyNotJudged)
		f.Is = key.String()
		fs = append(fs, f)
	}
	if _, isRSA := c.x.PublicKey.(*rsa.PublicKey); !isRSA {
		return fs
	}
	var f Finding
	switch bits := c.facts.KeyBits; {
	case bits < g.refuseRSABelow:
		f = finding(KeyTooSmall)
		f.Wanted += fmt.Sprintf(wantedKeyBits, g.refuseRSABelow)
	case bits < g.warnRSABelow:
		f = finding(KeySmall)
		f.Wanted += fmt.Sprintf(wantedKeyBits, g.warnRSABelow)
	default:
		return fs
	}
	f.Is = key.Key
	return append(fs, f)
}
