// Package rxguard is the contract of this module on one page; it holds no code.
//
// A clinical system asks before every electronic prescription signature whether
// the prescriber's smartcard may sign, and signs only through what asked. The parts:
//
//   - guard decides. Its Check judges the card's signing certificate against
//     affected-issuance advisories, validity, profile and hold, and answers with a
//     verdict in plain words. It needs nothing but the standard library.
//   - guard/advisory holds the advisories: a document, its JSON Schema, its
//     lifecycle, and the 2020 notice built in.
//   - signing signs, and is the one way to the card's key, behind a PKCS#11 module
//     (which needs cgo) or simulated. Its Signer asks the guard itself for every
//     signature, verifies what the card made, and records the decision before it
//     releases anything. Its Cards lists readers and cards with their verdicts.
//   - signing/eps reads $prepare answers of the Electronic Prescription Service and
//     writes Signature and Provenance.
//   - renewal replaces an affected certificate in process, through an Enroller;
//     renewal/est is one for EST (RFC 7030), renewal/renewaltest tests others.
//   - signing/signingtest is a simulated card for integration tests.
//
// # What holds
//
// No signature is made with the signing key without the guard having allowed that
// certificate in that card session. Refused, undecided and allowed are three
// answers, and only allowed, or allowed with a warning, permits a signature. A
// notice that has ended refuses nobody. A card that was renewed, or whose renewal
// was given up, signs nothing until it was seen to be taken out and put back and
// its passcode was entered afresh, in whatever process. The old key stays until the
// new one has signed and verified. A renewed certificate is judged like any other.
// The passcode is asked when it is needed, wiped, and never stored. Everything that
// is released was verified, and every decision is in a record that shows whether it
// was altered. SECURITY.md names the test of each promise.
//
// # Conventions
//
// Instants are UTC. Intervals of time are half-open. Errors say what was found,
// what was wanted and what to do; those that callers branch on are typed
// (guard.Refused, guard.Undecided, signing.CardError, renewal.Error). Types that
// have methods are safe for concurrent use unless their comment says otherwise. A
// context ends a wait at once; it never releases a signature.
package rxguard
