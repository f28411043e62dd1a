package weakkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
)

// judgeECDSA validates the point, NIST SP 800-56A revision 3, 5.6.2.3.3: not the point
// at infinity, coordinates in range, on the curve. On these curves, of prime order,
// that is full validation.
func judgeECDSA(key *ecdsa.PublicKey) Result {
	const judged = "P-256, P-384 and P-521 are judged"
	switch {
	case key == nil || key.Curve == nil:
		return cannotJudge("ECDSA", "the key has no curve")
	case curveOf(key) == "":
		return cannotJudge("ECDSA, an unknown curve", judged)
	case curveOf(key) == "P-224":
		return cannotJudge("ECDSA, P-224", judged)
	}
	r := Result{Key: "ECDSA, " + curveOf(key), Judged: true}
	if !onCurve(key) {
		r.add(Point, "the key is not a point of "+curveOf(key))
	}
	return r
}

// curveOf names the curve if crypto/ecdsa has it.
func curveOf(key *ecdsa.PublicKey) string {
	if key == nil {
		return ""
	}
	switch key.Curve { // by identity: methods of a foreign curve are not called
	case elliptic.P224():
		return "P-224"
	case elliptic.P256():
		return "P-256"
	case elliptic.P384():
		return "P-384"
	case elliptic.P521():
		return "P-521"
	}
	return ""
}

// onCurve asks crypto/ecdsa, which encodes no invalid point.
func onCurve(key *ecdsa.PublicKey) bool {
	//lint:ignore SA1019 a key that was put together by hand may lack its coordinates
	if key.X == nil || key.Y == nil {
		return false
	}
	_, err := key.Bytes()
	return err == nil
}
