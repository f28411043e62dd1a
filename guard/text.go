package guard

import "github.com/rxguard/rxguard/guard/advisory"

// All English text that a prescriber can meet in a verdict is in this file and in
// the advisories. Short sentences, for people who do not know what a certificate
// is: what happened, that nothing was signed, what to do now. A text stands beside
// others, so one that does not refuse speaks for itself alone: another may.

var (
	toRA    = advisory.Remedy{Kind: advisory.RegistrationAuthority, Text: "Contact your Registration Authority."}
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

	NotYetValid: {"not_yet_valid", CheckValidity, DecisionRefused,
		"Your smartcard is not valid yet. Check the date and time of this computer. Nothing was signed.",
		"an instant after notBefore", []advisory.Remedy{toIT, toRA, toPaper}},
	Expired: {"expired", CheckValidity, DecisionRefused,
		"Your smartcard has expired. It must be renewed in person. Nothing was signed.",
		"an instant before notAfter", []advisory.Remedy{toRA, toPaper}},
	PrivateKeyUsagePassed: {"private_key_usage_passed", CheckValidity, DecisionWarned,
		"Your smartcard should be renewed soon. This alone does not stop you from signing.",
		"an instant inside the private key usage period", []advisory.Remedy{toRA}},

	NotForSigning: {"not_for_signing", CheckProfile, DecisionRefused,
		"What is on your smartcard is not meant for signing prescriptions. Nothing was signed.",
		"key usage contentCommitment (nonRepudiation)", []advisory.Remedy{toRA, toPaper}},
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
}

// undecidableYet takes the place of the text of AffectedUndecidable while the
// advisory is announced but not yet enforced.
const undecidableYet = "It could not be told whether a notice covers your smartcard. Until the notice takes effect this does not stop you from signing."

// notCheckedText says why a check is not made.
var notCheckedText = map[CheckName]string{
	CheckChain:      "the guard has no trusted roots to judge by",
	CheckRevocation: "the guard has no revocation lists to judge by",
	CheckStrength:   "the guard has no rules for the size and strength of keys to judge by",
}
