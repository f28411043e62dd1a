package guard

import "github.com/rxguard/rxguard/guard/advisory"

// All English text of a verdict is in this file, in the advisories and, for a weak key,
// in package weakkey, but for the names of things and what errors say. For prescribers:
// short sentences, for people who do not know what a certificate is; what happened, that
// nothing was signed, what to do now. A text stands beside others, so one that does not
// refuse speaks for itself alone: another may. testdata/texts.golden shows all of it.

// endings is how a text ends, by its effect: a policy that changes the effect changes
// the ending.
var endings = [...]string{
	DecisionRefused:   "Nothing was signed.",
	DecisionUndecided: "Nothing was signed.",
	DecisionWarned:    "This alone does not stop you from signing.",
	DecisionAllowed:   "You do not need to do anything.",
}

// What ForPrescriber begins with, and puts between the texts.
const (
	headRefused   = "You cannot sign with this smartcard now. Nothing was signed."
	headUndecided = "Your smartcard could not be checked, so you cannot sign with it now. Nothing was signed."
	headWarned    = "You can sign with this smartcard. Please note:"
	headAllowed   = "You can sign with this smartcard."
	whatNow       = "What to do now:"
	doThisBy      = "Do this before %s."
)

var (
	toRA    = advisory.Remedy{Kind: advisory.RegistrationAuthority, Text: "Contact your Registration Authority."}
	clock   = advisory.Remedy{Kind: advisory.ITSupport, Text: "Check the date and time on this computer. If they are wrong, contact your local IT support."}
	toIT    = advisory.Remedy{Kind: advisory.ITSupport, Text: "Contact your local IT support."}
	toPaper = advisory.Remedy{Kind: advisory.Paper, Text: "If a patient is waiting, write a paper prescription."}
	reseat  = advisory.Remedy{Kind: advisory.Reseat, Text: "Take your smartcard out, put it back in and enter your passcode."}
	insert  = advisory.Remedy{Kind: advisory.Reseat, Text: "Put your smartcard into the reader."}
	resume  = advisory.Remedy{Kind: advisory.Renew, Text: "Finish the renewal of your smartcard."}
)

var descriptions = [reasons]description{
	Unspecified: {"unspecified", CheckCard, DecisionRefused,
		"Your smartcard was not checked. Nothing was signed.",
		"a check of the card", []advisory.Remedy{toIT, toPaper}},

	CardAbsent: {"card_absent", CheckCard, DecisionUndecided,
		"There is no smartcard in the reader. Nothing was signed.",
		"a smartcard in the reader", []advisory.Remedy{insert, toIT, toPaper}},
	CardUnreadable: {"card_unreadable", CheckCard, DecisionUndecided,
		"Your smartcard could not be read. Nothing was signed.",
		"a smartcard that can be read", []advisory.Remedy{reseat, toIT, toPaper}},
	NoSigningCertificate: {"no_signing_certificate", CheckCard, DecisionUndecided,
		"Your smartcard has nothing on it to sign prescriptions with. Nothing was signed.",
		"one signing certificate with its key", []advisory.Remedy{toRA, toPaper}},
	SeveralCertificates: {"several_certificates", CheckCard, DecisionUndecided,
		"Your smartcard has more than one way to sign. It is not clear which one is right. Nothing was signed.",
		"exactly one signing certificate with its key", []advisory.Remedy{toRA, toPaper}},
	CertificateDamaged: {"certificate_damaged", CheckCard, DecisionUndecided,
		"Part of your smartcard is damaged and cannot be read. Nothing was signed.",
		"an X.509 certificate", []advisory.Remedy{toRA, toPaper}},
	SimulatedCard: {"simulated_card", CheckCard, DecisionRefused,
		"This is a test smartcard. It cannot sign prescriptions for patients. Nothing was signed.",
		"a real smartcard", []advisory.Remedy{toIT, toPaper}},

	Affected: {"affected", CheckIssuance, DecisionRefused,
		"Your smartcard must be renewed before you sign any further prescriptions. Nothing was signed.",
		"a certificate that the notice does not cover", []advisory.Remedy{toRA, toPaper}},
	AffectedSoon: {"affected_soon", CheckIssuance, DecisionWarned,
		"Your smartcard must be renewed soon. This does not stop you from signing yet.",
		"a certificate that the notice does not cover", []advisory.Remedy{toRA}},
	AffectedShadow: {"affected_shadow", CheckIssuance, DecisionAllowed,
		"A notice on trial covers your smartcard. You do not need to do anything.",
		"", nil},
	AffectedEnded: {"affected_ended", CheckIssuance, DecisionAllowed,
		"An earlier notice covered your smartcard. It has ended. You do not need to do anything.",
		"", nil},
	AffectedFixed: {"affected_fixed", CheckIssuance, DecisionAllowed,
		"A notice covers smartcards like yours, but yours has already been put right. You do not need to do anything.",
		"", nil},
	AffectedUndecidable: {"affected_undecidable", CheckIssuance, DecisionUndecided,
		"It is not known whether a notice covers your smartcard. Nothing was signed.",
		"evidence of who issued the certificate", []advisory.Remedy{toIT, toRA, toPaper}},
	RulesMissing: {"rules_missing", CheckIssuance, DecisionUndecided,
		"The rules for checking your smartcard are missing. Nothing was signed.",
		"a set of rules", []advisory.Remedy{toIT, toPaper}},
	RulesBackwards: {"rules_backwards", CheckIssuance, DecisionWarned,
		"The latest update of the rules for checking smartcards could not be used. The rules before it are still in use. This alone does not stop you from signing.",
		"rules that follow the ones in use", []advisory.Remedy{toIT}},
	RulesStale: {"rules_stale", CheckIssuance, DecisionWarned,
		"The rules for checking your smartcard are out of date. They may include a notice that has ended. This alone does not stop you from signing.",
		"rules that have not expired", []advisory.Remedy{toIT}},

	OnHold: {"on_hold", CheckHold, DecisionRefused,
		"The renewal of your smartcard has ended. Take the smartcard out and put it back in before you sign. Nothing was signed.",
		"the card taken out and put back after its renewal", []advisory.Remedy{reseat, toIT, toPaper}},
	OnHoldRenewal: {"on_hold_renewal", CheckHold, DecisionRefused,
		"The renewal of your smartcard is not finished. Nothing was signed.",
		"a renewal that is finished or given up", []advisory.Remedy{resume, toRA, toPaper}},
	OnHoldLogin: {"on_hold_login", CheckHold, DecisionRefused,
		"Your smartcard was put back in after a renewal. Enter your passcode before you sign. Nothing was signed.",
		"the passcode entered afresh", []advisory.Remedy{{Kind: advisory.Reseat, Text: "Enter your passcode."}, toIT, toPaper}},
	HoldUnknown: {"hold_unknown", CheckHold, DecisionUndecided,
		"It is not known whether a renewal of your smartcard is finished. Nothing was signed.",
		"a folder of holds that can be read", []advisory.Remedy{toIT, toPaper}},

	ClockBehind: {"clock_behind", CheckClock, DecisionUndecided,
		"The date or time on this computer seems to be wrong. Nothing was signed.",
		"a clock that is not behind", []advisory.Remedy{clock, toPaper}},

	NotYetValid: {"not_yet_valid", CheckValidity, DecisionRefused,
		"Your smartcard is not valid yet. The date or time on this computer may be wrong. Nothing was signed.",
		"an instant after notBefore", []advisory.Remedy{clock, toRA, toPaper}},
	Expired: {"expired", CheckValidity, DecisionRefused,
		"Your smartcard has expired. It must be renewed in person. Nothing was signed.",
		"an instant before notAfter", []advisory.Remedy{toRA, toPaper}},
	DatesImpossible: {"dates_impossible", CheckValidity, DecisionRefused,
		"The dates stored on your smartcard cannot be right. Nothing was signed.",
		"notAfter after notBefore", []advisory.Remedy{toRA, toPaper}},
	LifetimeUnusual: {"lifetime_unusual", CheckValidity, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"a certificate that is valid for a few years", []advisory.Remedy{toRA}},
	PrivateKeyUsagePassed: {"private_key_usage_passed", CheckValidity, DecisionWarned,
		"Your smartcard should be renewed soon. This alone does not stop you from signing.",
		"an instant inside the private key usage period", []advisory.Remedy{toRA}},

	NotForSigning: {"not_for_signing", CheckProfile, DecisionRefused,
		"Your smartcard is not set up for signing prescriptions. Nothing was signed.",
		"key usage contentCommitment (nonRepudiation)", []advisory.Remedy{toRA, toPaper}},
	CriticalExtension: {"critical_extension", CheckProfile, DecisionRefused,
		"Your smartcard has a special setting that this computer does not understand. Nothing was signed.",
		"no critical extension but those of RFC 5280", []advisory.Remedy{toRA, toIT, toPaper}},
	KeyUsageNotCritical: {"key_usage_not_critical", CheckProfile, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"key usage marked critical", []advisory.Remedy{toRA}},
	KeyUsageExtra: {"key_usage_extra", CheckProfile, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"key usage contentCommitment alone", []advisory.Remedy{toRA}},
	ExtendedKeyUsage: {"extended_key_usage", CheckProfile, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"no extended key usage", []advisory.Remedy{toRA}},
	PolicyMissing: {"policy_missing", CheckProfile, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"certificate policy " + SigningPolicy, []advisory.Remedy{toRA}},
	UserIDMissing: {"user_id_missing", CheckProfile, DecisionWarned,
		"Your smartcard does not hold your user number in the usual place. This alone does not stop you from signing.",
		"a subject whose common name starts with a 12-digit user id", []advisory.Remedy{toRA}},
	SerialUnusual: {"serial_unusual", CheckProfile, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"an issuer name and a positive serial number of at most 20 octets", []advisory.Remedy{toRA}},

	ChainUntrusted: {"chain_untrusted", CheckChain, DecisionRefused,
		"It could not be confirmed who issued your smartcard. Nothing was signed.",
		"a chain of CA certificates to one of the configured roots", []advisory.Remedy{toIT, toRA, toPaper}},
	ChainExpired: {"chain_expired", CheckChain, DecisionRefused,
		"It could not be confirmed who issued your smartcard. The date or time on this computer may be wrong. Nothing was signed.",
		"CA certificates up to a configured root that are valid at the judged instant", []advisory.Remedy{clock, toRA, toPaper}},
	ChainInvalid: {"chain_invalid", CheckChain, DecisionRefused,
		"Your smartcard was issued in a way that is not accepted here. Nothing was signed.",
		"a chain to a configured root that keeps the rules of RFC 5280 6.1", []advisory.Remedy{toIT, toRA, toPaper}},

	Revoked: {"revoked", CheckRevocation, DecisionRefused,
		"Your smartcard has been cancelled. Nothing was signed.",
		"a certificate that is not revoked", []advisory.Remedy{toRA, toPaper}},
	CARevoked: {"ca_revoked", CheckRevocation, DecisionRefused,
		"Your smartcard has been cancelled, together with many others. Nothing was signed.",
		"CA certificates that are not revoked", []advisory.Remedy{toRA, toPaper}},
	RevocationLapsed: {"revocation_lapsed", CheckRevocation, DecisionUndecided,
		"It is not known whether your smartcard has been cancelled. The latest list of cancelled smartcards is too old or cannot be relied on. Nothing was signed.",
		"revocation lists that are verified and in date", []advisory.Remedy{toIT, toPaper}},
	RevocationUnknown: {"revocation_unknown", CheckRevocation, DecisionWarned,
		"It is not known whether your smartcard has been cancelled. This alone does not stop you from signing.",
		"a revocation list that covers the certificate", []advisory.Remedy{toIT}},
	RevocationStale: {"revocation_stale", CheckRevocation, DecisionWarned,
		"The latest list of cancelled smartcards is out of date. This alone does not stop you from signing.",
		"revocation lists before their nextUpdate", []advisory.Remedy{toIT}},

	WeakKey: {"weak_key", CheckStrength, DecisionRefused,
		"Your smartcard is not safe: others could sign in your name. Nothing was signed.",
		"a key without this weakness", []advisory.Remedy{toRA, toPaper}},
	KeyTooSmall: {"key_too_small", CheckStrength, DecisionRefused,
		"Your smartcard is of an old kind that is no longer safe. Nothing was signed.",
		"an RSA key that is long enough", []advisory.Remedy{toRA, toPaper}},
	KeySmall: {"key_small", CheckStrength, DecisionWarned,
		"Your smartcard is of an old kind that should be replaced. This alone does not stop you from signing.",
		"an RSA key that is long enough", []advisory.Remedy{toRA}},
	KeyNotJudged: {"key_not_judged", CheckStrength, DecisionUndecided,
		"It is not known whether your smartcard is safe to sign with. Nothing was signed.",
		"a key of a kind whose strength can be judged", []advisory.Remedy{toRA, toPaper}},
}

// undecidableYet takes the place of the text of AffectedUndecidable while the
// advisory is announced but not yet enforced.
const undecidableYet = "It is not known whether a notice covers your smartcard. This does not stop you from signing until the notice takes effect."

// What is added to the message of a notice. The first is for when its renew_by has
// passed, the second names a day.
const (
	renewalLate  = "The last day for that has passed. Contact your Registration Authority now."
	renewalEarly = "You cannot renew this smartcard yourself before %s. Your Registration Authority can renew it now."
)

// notCheckedText says why a check is not made.
var notCheckedText = map[CheckName]string{
	CheckChain:      "the guard has no trusted roots to judge by",
	CheckRevocation: "the guard has no revocation lists to judge by",
}

// offText says that the policy turned off a check or a part of one.
const offText = "the policy turned it off (%s): %s"

// weakenedText says what a setting of the policy means that is weaker than its
// default.
var weakenedText = map[string]map[Action]string{
	"Validity": {
		UnsafeWarn: "a certificate that is not valid at the judged instant is only warned of",
		UnsafeOff:  "nothing is said of a certificate that is not valid at the judged instant",
	},
	"Profile": {
		UnsafeWarn: "a certificate that is not for signing, or has a critical extension that is not known, is only warned of",
		UnsafeOff:  "nothing is said of a certificate that is not for signing, or has a critical extension that is not known",
	},
	"ProfileDetails": {
		UnsafeOff: "nothing is said of a certificate that differs from the signing profile in other ways",
	},
	"Chain": {
		UnsafeWarn: "a certificate without a valid chain to a configured root is only warned of",
		UnsafeOff:  "nothing is said of a certificate without a valid chain to a configured root",
	},
	"Revocation": {
		UnsafeWarn: "a certificate that is revoked, or whose CA is, is only warned of",
		UnsafeOff:  "nothing is said of the revocation of a certificate or its CA",
	},
	"RevocationLapsed": {
		UnsafeWarn: "a certificate whose revocation lists cannot be relied on is only warned of",
	},
	"WeakKey": {
		UnsafeWarn: "a key with a known weakness is only warned of",
		UnsafeOff:  "nothing is said of a key with a known weakness, or of one that cannot be judged",
	},
	"KeySize": {
		UnsafeWarn: "a key that is too small is only warned of",
		UnsafeOff:  "nothing is said of a key that is small or too small",
	},
}

// What a finding says is there, and what was wanted, for those who look after cards.
const (
	isIssued         = "issuer %s, serial %s, issued %s"
	isHeld           = "on hold since %s"
	isNotKnown       = "; not known: %s"
	isNone           = "none"
	isClock          = "this computer says %s, %s are of %s"
	isStale          = "the rules expired %s"
	isNotBefore      = "notBefore %s, judged at %s"
	isNotAfter       = "notAfter %s, judged at %s"
	isDates          = "notBefore %s, notAfter %s"
	isUsageEnded     = "private key usage period ended %s"
	isCritical       = "critical extension %s; %s"
	isKeyUsage       = "key usage %s"
	isExtKeyUsage    = "extended key usage %s"
	isPolicies       = "certificate policies %s"
	isSubject        = "subject %s"
	isChainElsewhere = "%s; judged at %s, while there is a chain from %s until %s"
	isCriticalOfCA   = "CA %s has the critical extension %s, which is not known"
	isCertificate    = "the certificate"
	isCA             = "CA %s"
	isRevoked        = " is revoked since %s, reason %s"

	ofRules   = "the rules"
	ofLists   = "the revocation lists"
	ofLastRun = "the records of this computer"

	wantedOpenWindow = ": affected are those issued from %s on"
	wantedWindow     = ": affected are those issued from %s and before %s"
	wantedKeyBits    = ": at least %d bits"
)

// How instants are written: for those who look after cards; and for prescribers, in the
// time of the United Kingdom, a midnight there as the day that it begins.
const (
	instantForm = "2006-01-02 15:04:05 UTC"
	dayForm     = "2 January 2006"
	dayTimeForm = "2 January 2006, 15:04 UK time"
)

// The lines of Verdict.String.
const (
	lineVerdict     = "%s as of %s"
	lineCard        = "  card: %s"
	lineCertificate = "  certificate: " + isIssued
	lineFinding     = "  %s: %s"
	lineNotice      = "    notice: %s (%s revision %d, %s, basis %s)"
	lineBasis       = "    basis: %s"
	lineIs          = "    is: %s"
	lineWanted      = "    wanted: %s"
	lineRemedy      = "    %d. %s"
	lineBy          = "    by: %s"
	lineRenewal     = "    renewal by the holder: from %s on"
	lineLink        = "    see: %s"
	lineNotChecked  = "  not checked: %s: %s"
	lineWeakened    = "  weaker than the default: %s is %s: %s"
)

// How a card is named.
const (
	cardSerial    = "serial %s"
	cardLabel     = "label %s"
	cardSimulated = "simulated"
)
