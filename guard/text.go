package guard

import "github.com/rxguard/rxguard/guard/advisory"

// All English text of a verdict is in this file and in the advisories, but for the
// names of things and what errors say. For prescribers: short sentences, for people
// who do not know what a certificate is; what happened, that nothing was signed, what
// to do now. A text stands beside others, so one that does not refuse speaks for
// itself alone: another may. testdata/texts.golden shows all of it.

// endings is how a text ends, by its effect: a policy that changes the effect changes
// the ending.
var endings = [...]string{
	DecisionRefused:   "Nothing was signed.",
	DecisionUndecided: "Nothing was signed.",
	DecisionWarned:    "This alone does not stop you from signing.",
	DecisionAllowed:   "You need not do anything about it.",
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
	clock   = advisory.Remedy{Kind: advisory.ITSupport, Text: "Check the date and time of this computer. If they are wrong, contact your local IT support."}
	toIT    = advisory.Remedy{Kind: advisory.ITSupport, Text: "Contact your local IT support."}
	toPaper = advisory.Remedy{Kind: advisory.Paper, Text: "If a patient is waiting, write a paper prescription."}
	reseat  = advisory.Remedy{Kind: advisory.Reseat, Text: "Take your smartcard out, put it back in and enter your passcode."}
	insert  = advisory.Remedy{Kind: advisory.Reseat, Text: "Put your smartcard into the reader."}
	resume  = advisory.Remedy{Kind: advisory.Renew, Text: "Let the renewal of your smartcard finish."}
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
		"There is nothing on your smartcard to sign prescriptions with. Nothing was signed.",
		"one signing certificate with its key", []advisory.Remedy{toRA, toPaper}},
	SeveralCertificates: {"several_certificates", CheckCard, DecisionUndecided,
		"Your smartcard holds more than one means of signing, and it is not clear which one is right. Nothing was signed.",
		"exactly one signing certificate with its key", []advisory.Remedy{toRA, toPaper}},
	CertificateDamaged: {"certificate_damaged", CheckCard, DecisionUndecided,
		"What your smartcard signs with is damaged and cannot be read. Nothing was signed.",
		"an X.509 certificate", []advisory.Remedy{toRA, toPaper}},
	SimulatedCard: {"simulated_card", CheckCard, DecisionRefused,
		"This is a simulated smartcard for tests. It cannot sign prescriptions for patients. Nothing was signed.",
		"a real smartcard", []advisory.Remedy{toIT, toPaper}},

	Affected: {"affected", CheckIssuance, DecisionRefused,
		"Your smartcard must be renewed before you sign any further prescriptions. Nothing was signed.",
		"a certificate that the notice does not cover", []advisory.Remedy{toRA, toPaper}},
	AffectedSoon: {"affected_soon", CheckIssuance, DecisionWarned,
		"Your smartcard must be renewed soon. This does not stop you from signing yet.",
		"a certificate that the notice does not cover", []advisory.Remedy{toRA}},
	AffectedShadow: {"affected_shadow", CheckIssuance, DecisionAllowed,
		"A notice on trial covers your smartcard. You need not do anything about it.",
		"", nil},
	AffectedEnded: {"affected_ended", CheckIssuance, DecisionAllowed,
		"An earlier notice covered your smartcard. It has ended. You need not do anything about it.",
		"", nil},
	AffectedFixed: {"affected_fixed", CheckIssuance, DecisionAllowed,
		"A notice covers smartcards like yours, but yours has already been put right. You need not do anything about it.",
		"", nil},
	AffectedUndecidable: {"affected_undecidable", CheckIssuance, DecisionUndecided,
		"It could not be told whether a notice covers your smartcard. Nothing was signed.",
		"evidence of who issued the certificate", []advisory.Remedy{toIT, toRA, toPaper}},
	RulesMissing: {"rules_missing", CheckIssuance, DecisionUndecided,
		"The rules to check your smartcard with are missing. Nothing was signed.",
		"a set of rules", []advisory.Remedy{toIT, toPaper}},
	RulesBackwards: {"rules_backwards", CheckIssuance, DecisionWarned,
		"An update of the rules could not be used, because it would take rules back. The last good rules are in use. This alone does not stop you from signing.",
		"rules that follow the ones in use", []advisory.Remedy{toIT}},
	RulesStale: {"rules_stale", CheckIssuance, DecisionWarned,
		"The rules to check your smartcard with are out of date. They may name a notice that has ended. This alone does not stop you from signing.",
		"rules that have not expired", []advisory.Remedy{toIT}},

	OnHold: {"on_hold", CheckHold, DecisionRefused,
		"The renewal of your smartcard has ended. Take it out and put it back in before you sign. Nothing was signed.",
		"the card taken out and put back after its renewal", []advisory.Remedy{reseat, toIT, toPaper}},
	OnHoldRenewal: {"on_hold_renewal", CheckHold, DecisionRefused,
		"The renewal of your smartcard is not finished. Nothing was signed.",
		"a renewal that is finished or given up", []advisory.Remedy{resume, toRA, toPaper}},
	OnHoldLogin: {"on_hold_login", CheckHold, DecisionRefused,
		"Your smartcard was put back in. Enter your passcode to finish its renewal. Nothing was signed.",
		"the passcode entered afresh", []advisory.Remedy{{Kind: advisory.Reseat, Text: "Enter your passcode."}, toIT, toPaper}},
	HoldUnknown: {"hold_unknown", CheckHold, DecisionUndecided,
		"It could not be told whether your smartcard waits for the end of a renewal. Nothing was signed.",
		"a folder of holds that can be read", []advisory.Remedy{toIT, toPaper}},

	ClockBehind: {"clock_behind", CheckClock, DecisionUndecided,
		"The date and time of this computer are wrong. Check the date and time of this computer. Nothing was signed.",
		"a clock that is not behind", []advisory.Remedy{clock, toPaper}},

	NotYetValid: {"not_yet_valid", CheckValidity, DecisionRefused,
		"Your smartcard is not valid yet. Check the date and time of this computer. Nothing was signed.",
		"an instant after notBefore", []advisory.Remedy{clock, toRA, toPaper}},
	Expired: {"expired", CheckValidity, DecisionRefused,
		"Your smartcard has expired. It must be renewed in person. Nothing was signed.",
		"an instant before notAfter", []advisory.Remedy{toRA, toPaper}},
	DatesImpossible: {"dates_impossible", CheckValidity, DecisionRefused,
		"The dates on your smartcard cannot be right. Nothing was signed.",
		"notAfter after notBefore", []advisory.Remedy{toRA, toPaper}},
	LifetimeUnusual: {"lifetime_unusual", CheckValidity, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"a certificate that is valid for a few years", []advisory.Remedy{toRA}},
	PrivateKeyUsagePassed: {"private_key_usage_passed", CheckValidity, DecisionWarned,
		"Your smartcard should be renewed soon. This alone does not stop you from signing.",
		"an instant inside the private key usage period", []advisory.Remedy{toRA}},

	NotForSigning: {"not_for_signing", CheckProfile, DecisionRefused,
		"What is on your smartcard is not meant for signing prescriptions. Nothing was signed.",
		"key usage contentCommitment (nonRepudiation)", []advisory.Remedy{toRA, toPaper}},
	CriticalExtension: {"critical_extension", CheckProfile, DecisionRefused,
		"Your smartcard has a condition that is not understood here. Nothing was signed.",
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
		"Your smartcard does not show your user number. This alone does not stop you from signing.",
		"a subject whose common name starts with a 12-digit user id", []advisory.Remedy{toRA}},
	SerialUnusual: {"serial_unusual", CheckProfile, DecisionWarned,
		"Your smartcard was set up in an unusual way. This alone does not stop you from signing.",
		"a positive serial number of at most 20 octets", []advisory.Remedy{toRA}},

	ChainUntrusted: {"chain_untrusted", CheckChain, DecisionRefused,
		"It could not be confirmed who issued your smartcard. Nothing was signed.",
		"a chain of CA certificates to one of the configured roots", []advisory.Remedy{toIT, toRA, toPaper}},
	ChainExpired: {"chain_expired", CheckChain, DecisionRefused,
		"Those who issued your smartcard are not recognised at this date. Check the date and time of this computer. Nothing was signed.",
		"CA certificates up to a configured root that are valid at the judged instant", []advisory.Remedy{clock, toRA, toPaper}},
	ChainInvalid: {"chain_invalid", CheckChain, DecisionRefused,
		"Your smartcard was issued in a way that is not accepted here. Nothing was signed.",
		"a chain to a configured root that keeps the rules of RFC 5280 6.1", []advisory.Remedy{toIT, toRA, toPaper}},

	Revoked: {"revoked", CheckRevocation, DecisionRefused,
		"Your smartcard has been cancelled. Nothing was signed.",
		"a certificate that is not revoked", []advisory.Remedy{toRA, toPaper}},
	CARevoked: {"ca_revoked", CheckRevocation, DecisionRefused,
		"Your smartcard was cancelled together with many others. Nothing was signed.",
		"CA certificates that are not revoked", []advisory.Remedy{toRA, toPaper}},
	RevocationLapsed: {"revocation_lapsed", CheckRevocation, DecisionUndecided,
		"It could not be told whether your smartcard has been cancelled. The last news of that is too old or cannot be relied on. Nothing was signed.",
		"revocation lists that are verified and in date", []advisory.Remedy{toIT, toPaper}},
	RevocationUnknown: {"revocation_unknown", CheckRevocation, DecisionWarned,
		"It could not be told whether your smartcard has been cancelled. This alone does not stop you from signing.",
		"a revocation list that covers the certificate", []advisory.Remedy{toIT}},
	RevocationStale: {"revocation_stale", CheckRevocation, DecisionWarned,
		"The last news of cancelled smartcards is out of date. This alone does not stop you from signing.",
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
		"It could not be told whether your smartcard is safe to sign with. Nothing was signed.",
		"a key of a kind whose strength can be judged", []advisory.Remedy{toRA, toPaper}},
}

// undecidableYet takes the place of the text of AffectedUndecidable while the
// advisory is announced but not yet enforced.
const undecidableYet = "It could not be told whether a notice covers your smartcard. Until the notice takes effect this does not stop you from signing."

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
	wantedKeyBits    = "an RSA key of at least %d bits"
)
