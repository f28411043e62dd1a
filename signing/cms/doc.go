// Package cms makes and verifies CMS signatures (Cryptographic Message Syntax,
// RFC 5652): a SignedData with one signer over content of any form, which is inside
// it (attached) or kept apart (detached). It decides whether a signature that a card
// made may be released, and whether one that came from elsewhere is what the caller
// asked for. It reaches neither a card nor the network.
//
//	signed, err := signing.Sign(ctx, signer, cms.Detached(content, cms.Options{}))
//	os.WriteFile("order.p7s", signed.DER(), 0o644)
//
//	result, err := cms.Verify(der, cms.VerifyOptions{Content: content, Roots: roots, At: received})
//
// What is signed is the DER of the signed attributes, never the content as it is:
// content type, message digest (SHA-256), signing time, and signing-certificate-v2
// (RFC 5035), the hash of the certificate. The last two are known only when the
// Signer has read the card: the time is that of the Signer's clock. Keys are RSA
// (RSASSA-PKCS1-v1_5, written as rsaEncryption, RFC 3370 3.2) or P-256
// (ecdsa-with-SHA256, RFC 5754 3.3). Everything that is written is DER.
//
// [Verify] reads DER alone and refuses the rest of BER before anything is parsed.
// Without someone to trust it does not say yes: its [Result] lists each check as
// passed, failed or not decidable, and its error tells the three apart.
//
// Limits: content inside a SignedData may have [MaxContent] bytes, all the rest of
// it [MaxRest]; detached content is hashed and not kept, and may have any size.
//
// A SignedData is written with go.mozilla.org/pkcs7 (Mozilla's; it pulls in nothing),
// whose AddSigner takes a key in memory only: it is given a key to throw away, and
// what that key made is replaced by what the card made. Reading is done with
// encoding/asn1, because the library's Parse follows indefinite lengths to any depth,
// takes a broken SignedData for one without certificates and one whose signer is
// named by key identifier for one without signers, and ignores what trails; and
// because its Verify encodes the attributes anew before it checks the signature, and
// trusts anybody.
package cms
