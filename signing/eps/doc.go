// Package eps reads and writes the formats of the Electronic Prescription
// Service that a signature goes through. It decides whether a $prepare answer is
// exactly what may be signed, and whether a finished signature would pass the
// checks of the national service that can be decided from what is at hand. It
// signs nothing itself, and reaches neither a card nor the network.
//
// The calls, in order:
//
//  1. [ParsePrepared] reads the answer of the service's $prepare operation. An
//     answer that refuses the prescription is an [OutcomeError]; one that is not
//     exactly the canonical SignedInfo it should be is a [FormatError].
//  2. signing.Sign takes the [Prepared] document, asks the guard, has the card
//     sign, and gives back a [Signed]. Before the passcode is asked for it calls
//     [Prepared.Accepts], which refuses with a [CertificateError].
//  3. [Signed.Provenance] writes the FHIR Provenance that goes to
//     $process-message with the prescription; [Signed.XML] is the XML-DSig
//     Signature inside it, and [Signed.Checks] lists what was checked and what
//     could not be.
//
// The bytes that are signed are the ones that the service sent, kept and embedded
// as they are; they are never parsed and written again.
package eps
