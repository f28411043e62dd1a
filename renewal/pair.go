package renewal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
)

// find lists the card's objects of a class with a CKA_ID.
func (r *run) find(class card.Class, id []byte) []card.Object {
	var out []card.Object
	for _, o := range r.v.objects {
		if o.Class == class && bytes.Equal(o.ID, id) {
			out = append(out, o)
		}
	}
	return out
}

// classes in the order in which a pair is removed: without its certificate a key
// signs nothing.
var classes = []card.Class{card.CertificateObject, card.PrivateKeyObject, card.PublicKeyObject}

// destroy removes what the card has of these classes under id, and looks again: a
// card that says it removed something is no proof. tolerated says which failures
// leave an object where it is.
func (r *run) destroy(ctx context.Context, id []byte, tolerated func(error) bool, cs ...card.Class) error {
	left := map[card.Class]bool{}
	for _, c := range cs {
		if len(r.find(c, id)) == 0 {
			continue
		}
		err := r.v.s.Destroy(ctx, c, id)
		switch {
		case err == nil, card.IsKind(err, card.NotFound):
		case tolerated(err):
			left[c] = true
		default:
			return err
		}
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	for _, c := range cs {
		if len(r.find(c, id)) > 0 && !left[c] {
			return card.Errorf(card.Fault, "destroy", "an object with CKA_ID %x is still on the card, though the card said it was removed", id)
		}
	}
	return nil
}

func never(error) bool { return false }
func cannot(err error) bool {
	return card.IsKind(err, card.Unsupported) || card.IsKind(err, card.ReadOnly)
}
func isFull(err error) bool { return card.IsKind(err, card.Full) }

// makeKey makes the new pair in a container of its own, or adopts the one that an
// earlier run made. Half a pair, from a card that lost power, is made anew.
func (r *run) makeKey(ctx context.Context) error {
	id := r.p.plan.NewID
	if _, err := r.newKey(ctx); err == nil {
		return nil
	}
	// A card that says at once that it removes nothing is told from one that finds
	// nothing to remove: it could never part with the old certificate.
	if err := r.v.s.Destroy(ctx, card.CertificateObject, id); err != nil && !card.IsKind(err, card.NotFound) {
		return err
	}
	if err := r.destroy(ctx, id, never, card.PrivateKeyObject, card.PublicKeyObject); err != nil {
		return err
	}
	if _, err := r.v.s.Generate(ctx, card.KeySpec{ID: id, Label: r.p.plan.NewLabel, Bits: r.wished().KeyBits}); err != nil {
		return err
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	_, err := r.newKey(ctx)
	return err
}

var errNotReplaced = errors.New("renewal: nobody said yes to giving up the old pair before there is a new certificate")

// consent asks whether the old pair may be given up, once in a run.
func (r *run) consent(ctx context.Context, p Plan) error {
	if r.yes {
		return nil
	}
	// The renewal may have been begun by a Renewer of another Config.
	if _, canAsk := r.c.Enroller.(Prober); r.c.Replace == nil || !canAsk {
		return errNotReplaced
	}
	yes, err := card.Ask(ctx, func() (bool, error) { return r.c.Replace(ctx, p) }, nil)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: %w", errNotReplaced, err)
	case !yes:
		return errNotReplaced
	}
	r.yes = true
	return nil
}

// replaceKey makes the new pair in the old one's place, or adopts the one that an
// earlier run made. As long as the old pair is there it wants an authority that has
// just answered, and a yes.
func (r *run) replaceKey(ctx context.Context) error {
	if _, err := r.newKey(ctx); err == nil {
		return nil
	}
	if r.oldCertificate() != nil {
		if err := r.consent(ctx, r.plan(r.v, r.p, r.held)); err != nil {
			if errors.Is(err, errNotReplaced) {
				err = &giveUp{whyNotReplaced, err}
			}
			return err
		}
		if err := r.probe(ctx); err != nil {
			return err
		}
	}
	spec := card.KeySpec{ID: r.p.plan.NewID, Label: r.p.plan.NewLabel, Bits: r.wished().KeyBits, Over: true}
	_, err := r.v.s.Generate(context.WithoutCancel(ctx), spec)
	// Also after a failure: whether the old pair is still there decides about the end.
	if lerr := r.v.look(context.WithoutCancel(ctx)); lerr != nil {
		return lerr
	}
	if err != nil {
		return err
	}
	_, err = r.newKey(ctx)
	return err
}

// replaced tells whether the old pair was given up for the new one: there is nothing to
// go back to.
func (r *run) replaced() bool {
	if !r.p.begun[StepReplace] || r.p.done[StepReplace] || r.oldCertificate() == nil {
		return r.p.begun[StepReplace]
	}
	_, err := r.newKey(context.Background())
	return err == nil
}

// keyDigest names a public key: SHA-256 of its SubjectPublicKeyInfo (RFC 5280 4.1.2.7).
func keyDigest(pub crypto.PublicKey) string {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	return sumOfDER(spki)
}

// newKey is the card's new key, which signs the request and the challenge.
func (r *run) newKey(ctx context.Context) (*cardKey, error) {
	private := r.find(card.PrivateKeyObject, r.p.plan.NewID)
	if len(private) == 0 {
		return nil, card.Errorf(card.NotFound, "find", "the new key, CKA_ID %x", r.p.plan.NewID)
	}
	k := &cardKey{ctx: context.WithoutCancel(ctx), asking: ctx, s: r.v.s, id: r.p.plan.NewID, open: true}
	for _, o := range append(private[:1:1], r.find(card.PublicKeyObject, r.p.plan.NewID)...) {
		if k.pub == nil {
			k.pub = o.Public
		}
	}
	if k.pub == nil {
		return nil, card.Errorf(card.NotFound, "find", "the public half of the new key, CKA_ID %x", r.p.plan.NewID)
	}
	if r.p.replaces() && keyDigest(k.pub) == r.p.plan.OldKey {
		return nil, card.Errorf(card.NotFound, "find", "the new key: CKA_ID %x has the old one still", r.p.plan.NewID)
	}
	k.login, k.each = r.askAgain, private[0].AlwaysAuthenticate
	return k, nil
}

// askAgain asks for the passcode once more, for one signature.
func (r *run) askAgain(ctx context.Context) error {
	return card.Login(ctx, r.c.Card, r.v.s, card.ToRenew)
}

// request makes the PKCS #10 request, signed by the new key, with the subject of
// the certificate that authenticates (RFC 7030 4.2.2) and what the authority wishes
// for.
func (r *run) request(ctx context.Context) ([]byte, error) {
	if r.v.aerr != nil {
		return nil, r.v.aerr
	}
	k, err := r.newKey(ctx)
	if err != nil {
		return nil, err
	}
	if pub, ok := k.pub.(*rsa.PublicKey); ok && !r.p.replaces() { // there is no old pair to go back to
		if err := r.suits(pub.N.BitLen()); err != nil {
			return nil, err
		}
	}
	w := r.wished()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject:         r.v.auth.Certificate.X509().RawSubject,
		SignatureAlgorithm: w.Signature,
		ExtraExtensions:    withNames(w.Extensions, r.v.auth.Certificate.X509()),
	}, k)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = parsed.CheckSignature()
	}
	if err != nil {
		return nil, &card.Error{Kind: card.BadSignature, Op: "request", TriesLeft: -1, Err: err}
	}
	return csr, nil
}

// oidSubjectAltName is RFC 5280 4.2.1.6.
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// withNames adds the subjectAltName of the certificate that authenticates, where it has
// one: a request has the same (RFC 7030 4.2.2).
func withNames(list []pkix.Extension, c *x509.Certificate) []pkix.Extension {
	is := func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) }
	if i := slices.IndexFunc(c.Extensions, is); i >= 0 && !slices.ContainsFunc(list, is) {
		list = append(slices.Clone(list), c.Extensions[i])
	}
	return list
}

// writeCertificate puts the certificate beside the new key and reads it back. What is
// there is replaced: a partial one of an earlier run, or the placeholder that some
// modules write with a new key, which they hide where it has none.
func (r *run) writeCertificate(ctx context.Context) error {
	id := r.p.plan.NewID
	if r.newIsWritten() {
		return nil
	}
	if err := r.nameNew(ctx); err != nil {
		return err
	}
	if err := r.v.s.WriteCertificate(ctx, id, r.p.plan.NewLabel, r.p.cert); err != nil {
		return err
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	if !r.newIsWritten() {
		return card.Errorf(card.BadObject, "write_certificate", "what was read back is not what was written")
	}
	return nil
}

func (r *run) newIsWritten() bool {
	there := r.find(card.CertificateObject, r.p.plan.NewID)
	return len(there) == 1 && bytes.Equal(there[0].DER, r.p.cert)
}

// prove has the new key sign a challenge, which verifies with the certificate that
// is on the card, and is written again where it is not. What this run proved needs
// no second proof.
func (r *run) prove(ctx context.Context) error {
	if r.proof.Signature != nil {
		return nil
	}
	if err := r.writeCertificate(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	c, err := x509.ParseCertificate(r.p.cert)
	if err != nil {
		return err
	}
	k, err := r.newKey(ctx)
	if err != nil {
		return err
	}
	r.proof, err = prove(k, c.PublicKey)
	return err
}

// switchPair removes the old certificate: from then on the new pair is the one
// that can sign. The journal is a hint, so the new pair is proved in the same run.
func (r *run) switchPair(ctx context.Context) error {
	if err := r.prove(ctx); err != nil {
		return err
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	old := r.find(card.CertificateObject, r.p.plan.OldID)
	if len(old) == 0 {
		return nil
	}
	if len(old) > 1 || !r.isOld(old[0]) {
		return card.Errorf(card.Ambiguous, "destroy", "the container of the old certificate holds another one; it was left alone")
	}
	err := r.destroy(context.WithoutCancel(ctx), r.p.plan.OldID, never, card.CertificateObject)
	if cannot(err) {
		return &giveUp{whyKeepsOld, err}
	}
	return err
}

// isOld tells whether o is the certificate that is renewed.
func (r *run) isOld(o card.Object) bool {
	c, err := guard.ParseCertificate(o.DER)
	return err == nil && c.Info().SHA256 == r.p.plan.OldCertificate
}

// retire destroys the old key. A card that cannot keeps it, without a certificate,
// and the result says so.
func (r *run) retire(ctx context.Context) error {
	if err := r.prove(ctx); err != nil {
		return err
	}
	kept := false
	tolerated := func(err error) bool {
		kept = kept || cannot(err)
		return cannot(err)
	}
	hard := context.WithoutCancel(ctx)
	if id := r.p.plan.OldID; len(r.find(card.PrivateKeyObject, id)) == 0 {
		// A module may hide a key whose certificate is gone.
		if err := r.v.s.Destroy(hard, card.PrivateKeyObject, id); err != nil && !card.IsKind(err, card.NotFound) && !tolerated(err) {
			return err
		}
	}
	err := r.destroy(hard, r.p.plan.OldID, tolerated, card.PrivateKeyObject, card.PublicKeyObject)
	if err != nil || !kept {
		return err
	}
	return r.write(JournalEntry{Step: StepRetire, Act: Note, Text: "the card cannot remove the old key"})
}

var errChanged = errors.New("renewal: another program changed the card while its renewal was not finished")

// changed tells whether somebody else worked on the card since this renewal began:
// its new key is gone or another one, or the card has a third certificate to sign
// with.
func (r *run) changed() bool {
	if r.p.hasNewKey() {
		k, err := r.newKey(context.Background())
		if err != nil {
			return true
		}
		if csr, err := x509.ParseCertificateRequest(r.p.csr); r.p.done[StepRequest] && (err != nil || !card.SameKey(k.pub, csr.PublicKey)) {
			return true
		}
	}
	for _, o := range r.v.objects {
		if o.Class != card.CertificateObject || r.isOld(o) {
			continue
		}
		// In the old pair's own container a certificate for signing is this renewal's, or of
		// whoever renewed the card meanwhile.
		if bytes.Equal(o.ID, r.p.plan.NewID) && (!r.p.replaces() || bytes.Equal(o.DER, r.p.cert)) {
			continue
		}
		if c, err := x509.ParseCertificate(o.DER); err == nil && c.KeyUsage&x509.KeyUsageContentCommitment != 0 && len(r.find(card.PrivateKeyObject, o.ID)) > 0 {
			return true
		}
	}
	return false
}
