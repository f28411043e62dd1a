// Package eps reads and writes the formats of the Electronic Prescription
// Service that a signature goes through. It decides whether a $prepare answer is
// exactly what may be signed, and whether a finished signature would pass the
// checks of the national service that can be decided from what is at hand. It
// signs nothing itself, and reaches neither a card nor the network.
//
// With the service's $prepare operation:
//
//  1. [ParsePrepared] reads the answer. One that refuses the prescription is an
//     [OutcomeError]; one that is not exactly the canonical SignedInfo it should be
//     is a [FormatError].
//  2. signing.Sign takes the [Prepared] document, asks the guard, has the card
//     sign, and gives back a [Signed]. Before the passcode is asked for it calls
//     [Prepared.Accepts], which refuses with a [CertificateError].
//  3. [Signed.Provenance] writes the FHIR Provenance that goes to
//     $process-message with the prescription; [Signed.XML] is the XML-DSig
//     Signature inside it, and [Signed.Checks] lists what was checked and what
//     could not be.
//
// With an HL7v3 message:
//
//  1. [ParseMessage] reads the message, strictly, with the prescriptions in it.
//  2. signing.Sign signs one [Prescription], signing.SignEach all of them under one
//     passcode entry. What is signed is the SignedInfo over the canonical
//     [Prescription.Fragments].
//  3. [Message.Fill] fills the signatures in and leaves every other byte alone.
//
// A [Verifier] judges what others signed, or oneself, before it is sent: by the
// nine checks that the national service makes, and by stricter ones of its own.
//
// The bytes that are signed are the ones that the service sent, or that were hashed
// here, kept and embedded as they are; they are never parsed and written again.
package eps
