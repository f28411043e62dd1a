package promises

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// walkAPI loads the public packages, with planted files, and walks them.
func walkAPI(t *testing.T, planted map[string]string) []finding {
	t.Helper()
	patterns := append(publicPackages(t), cardPath, "crypto")
	found, err := reach(load(t, planted, patterns...))
	require.NoError(t, err)
	return found
}

// P1: no exported identifier, and no method or field of a type that can be reached
// from one, signs with a card's key or hands out something that does.
func TestNoExportedIdentifierLeadsToAKey(t *testing.T) {
	for _, f := range walkAPI(t, nil) {
		t.Error(f)
	}
}

// planted are ways to a key that the walk must see: the file, the identifier under
// which it must be reported, a part of what must be said, and the declaration.
var planted = []struct {
	name, file, root, says, code string
}{
	{"a function that returns a crypto.Signer",
		"signing", "signing.PlantedSigner", "crypto.Signer",
		`import "crypto"
		func PlantedSigner(c *Card) crypto.Signer { return nil }`},
	{"a method on an unexported type that an exported function returns",
		"signing", "signing.PlantedUnexported", "has the methods of crypto.Signer",
		`import ("crypto"; "io")
		type plantedKey struct{}
		func (*plantedKey) Public() crypto.PublicKey { return nil }
		func (*plantedKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }
		func PlantedUnexported() *plantedKey { return nil }`},
	{"the same with a value receiver, in a map, behind a function",
		"signing", "signing.PlantedMap", "has the methods of crypto.Signer",
		`import ("crypto"; "io")
		type plantedValue int
		func (plantedValue) Public() crypto.PublicKey { return nil }
		func (plantedValue) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }
		var PlantedMap map[string]func() <-chan [2]plantedValue`},
	{"an HTTP transport",
		"renewal", "renewal.PlantedTransport", "net/http.Transport",
		`import "net/http"
		func PlantedTransport(t *Transport) *http.Transport { return nil }`},
	{"an exported field of an embedded unexported type",
		"signing", "signing.PlantedEmbedding", "internal/card.Session",
		`import "github.com/rxguard/rxguard/internal/card"
		type plantedEmbedded struct { Session card.Session }
		type PlantedEmbedding struct { *plantedEmbedded }`},
	{"methods promoted through an embedded unexported interface",
		"signing", "signing.PlantedPromotion", "has the methods of github.com/rxguard/rxguard/internal/card.Session",
		`import "github.com/rxguard/rxguard/internal/card"
		type plantedInterface card.Session
		type PlantedPromotion struct { plantedInterface }`},
	{"a generic type's argument",
		"signing", "signing.PlantedBoxed", "internal/card.Session",
		`import "github.com/rxguard/rxguard/internal/card"
		type PlantedBox[T any] struct { inner any }
		func (b *PlantedBox[T]) Open() T { return b.inner.(T) }
		func PlantedBoxed(*Card) *PlantedBox[card.Session] { return nil }`},
	{"a generic function's constraint",
		"signing", "signing.PlantedConstraint", "internal/card.Token",
		`import "github.com/rxguard/rxguard/internal/card"
		func PlantedConstraint[T interface{ Of(card.Token) }](t T) {}`},
	{"an alias of card.Session",
		"signing", "signing.PlantedAlias", "internal/card.Session",
		`import "github.com/rxguard/rxguard/internal/card"
		type PlantedAlias = card.Session`},
	{"an alias of the state folder, which can end holds",
		"signing", "signing.PlantedDir", "can end a hold",
		`import "github.com/rxguard/rxguard/internal/state"
		type PlantedDir = state.Dir`},
	{"a module's card, through the package that opens it",
		"signing", "signing.PlantedModule", "internal/p11.Token",
		`import ("context"; "github.com/rxguard/rxguard/internal/p11")
		func PlantedModule(ctx context.Context, path string) (*p11.Token, error) { return nil, nil }`},
	{"the same behind a listed card",
		"signing", "signing.PlantedListed", "internal/p11.Module",
		`import "github.com/rxguard/rxguard/internal/p11"
		type PlantedListed struct { CardInfo; Module *p11.Module }`},
	{"how a listed certificate's key is named",
		"signing", "signing.PlantedPair", "internal/card.Pair",
		`import "github.com/rxguard/rxguard/internal/card"
		type PlantedPair = card.Taken`},
	{"a callback that is given a key",
		"renewal", "renewal.PlantedCallback", "crypto.PrivateKey",
		`import "crypto"
		type PlantedCallback struct { Use func(crypto.PrivateKey) }`},
	{"an interface for callers to implement that is given a tls.Config",
		"renewal", "renewal.PlantedEnroller", "crypto/tls.Config",
		`import "crypto/tls"
		type PlantedEnroller interface { Enrol(*tls.Config) error }`},
	{"a parameter to be filled",
		"renewal", "renewal.PlantedFill", "crypto/tls.Certificate",
		`import "crypto/tls"
		func PlantedFill(t *Transport, c *tls.Certificate) { *c = *t.certificate }`},
	{"a message over any bytes",
		"signing", "signing.PlantedMessage", "internal/tbs.Message",
		`import ("crypto"; "github.com/rxguard/rxguard/internal/tbs")
		func PlantedMessage(b []byte) tbs.Message { return tbs.New("planted", b, crypto.SHA256, false) }`},
	{"a document of any bytes",
		"signing/eps", "signing/eps.PlantedDocument", "internal/tbs.Message",
		`import "github.com/rxguard/rxguard/internal/tbs"
		type PlantedDocument []byte
		func (d PlantedDocument) ToBeSigned() (tbs.Message, error) { return tbs.Message{}, nil }
		func (d PlantedDocument) Finish(tbs.Signature) ([]byte, error) { return nil, nil }`},
	{"an alias of tbs.Message",
		"signing", "signing.PlantedMessageAlias", "internal/tbs.Message",
		`import "github.com/rxguard/rxguard/internal/tbs"
		type PlantedMessageAlias = tbs.Message`},
	{"a raw signature before its document finished it",
		"signing", "signing.PlantedRaw", "internal/tbs.Signature",
		`import "github.com/rxguard/rxguard/internal/tbs"
		func PlantedRaw(s tbs.Signature) []byte { return tbs.Value(s) }`},
	{"a method that reads the raw signature, on the opaque type",
		"internal/tbs", "signing.Document", "a new method of an opaque type",
		`func (s Signature) Planted() int { return len(Value(s)) }`},
	{"a method that hands out the token, on the opaque Card",
		"internal/card", "signing.Card", "a new method of an opaque type",
		`func (h *Handle) Planted() {}`},
	{"a function that signs a digest",
		"signing", "signing.PlantedDigest", "takes bytes or a digest and returns bytes",
		`import "context"
		func PlantedDigest(ctx context.Context, s *Signer, digest [32]byte) ([]byte, error) { return nil, nil }`},
	{"a method that says that it signs",
		"renewal", "renewal.Renewer", "its name says that it signs",
		`func (r *Renewer) SignText(text string) string { return "" }`},
	{"an interface behind which anything can be",
		"signing", "signing.PlantedAny", "gives out the interface",
		`func PlantedAny(c *Card) any { return nil }`},
	{"the same in a variable",
		"signing", "signing.PlantedClosers", "gives out the interface io.Closer",
		`import "io"
		var PlantedClosers map[string][]io.Closer`},
	{"the same in a field of a pointed-to struct",
		"renewal", "renewal.PlantedResult", "gives out the interface",
		`type plantedResult struct { Key interface{ Public() string } }
		func PlantedResult() []*plantedResult { return nil }`},
	{"an internal type that was not meant to be seen",
		"signing", "signing.PlantedInternal", "an internal type",
		`import "github.com/rxguard/rxguard/internal/card"
		func PlantedInternal(*Card) card.Info { return card.Info{} }`},
	{"the simulated card itself",
		"signing/signingtest", "signing/signingtest.PlantedCard", "internal/card.Token",
		`import "github.com/rxguard/rxguard/internal/testcard"
		var PlantedCard *testcard.Card`},
}

func TestPlantedWaysToAKeyAreSeen(t *testing.T) {
	overlay := make(map[string]string)
	for i, p := range planted {
		pkg := p.file[strings.LastIndex(p.file, "/")+1:]
		overlay[p.file+"/planted"+string(rune('a'+i))+".go"] = "package " + pkg + "\n" + p.code + "\n"
	}
	found := walkAPI(t, overlay)
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			seen := slices.ContainsFunc(found, func(f finding) bool {
				return f.Root == p.root && strings.Contains(f.What, p.says)
			})
			assert.True(t, seen, "not seen: wanted %s to be reported: %s", p.root, p.says)
		})
	}
}

// The tables of exceptions name only what is there: a stale entry would let the
// next thing of that name through.
func TestExceptionsAreInUse(t *testing.T) {
	names := make(map[string]bool)
	for _, p := range load(t, nil, append(publicPackages(t), cardPath, tbsPath, statePath, p11Path)...) {
		for _, n := range p.Types.Scope().Names() {
			names[short(p.PkgPath)+"."+n] = true
		}
	}
	check := func(table, entry string) {
		name, _, _ := strings.Cut(entry, ":")
		assert.True(t, names[strings.TrimPrefix(name, module+"/")], "%s: %s is not there", table, entry)
	}
	for e := range allowedTypes {
		check("allowedTypes", e)
	}
	for e := range allowedNames {
		check("allowedNames", e)
	}
	for e := range allowedBytes {
		check("allowedBytes", e)
	}
	for e := range allowedInterfaces {
		name, _, _ := strings.Cut(e, ".Config")
		check("allowedInterfaces", name+".Config")
	}
	for e := range documents {
		check("documents", e)
	}
	for e := range internals {
		check("internals", e)
	}
	for e := range opaque {
		check("opaque", e)
	}
	for e := range forbidden {
		if ours(e) {
			check("forbidden", e)
		}
	}
}
