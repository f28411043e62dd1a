package guard

import "github.com/rxguard/rxguard/guard/advisory"

// All English text that a prescriber can meet in a verdict is in this file and in
// the advisories. Short sentences, no certificate jargon: what happened, that
// nothing was signed, what to do now.

var (
	toRA    = advisory.Remedy{Kind: advisory.RegistrationAuthority, Text: "Contact your Registration Authority."}
	toIT    = advisory.Remedy{Kind: advisory.ITSupport, Text: "Contact your local IT support."}
	toPaper = advisory.Remedy{Kind: advisory.Paper, Text: "If a patient is waiting, write a paper prescription."}
	reseat  = advisory.Remedy{Kind: advisory.Reseat, Text: "Take your smartcard out, put it back in and enter your passcode."}
	insert  = advisory.Remedy{Kind: advisory.Reseat, Text: "Put your smartcard into the reader."}
	resume  = advisory.Remedy{Kind: advisory.Renew, Text: "Let the renewal of your smartcard finish."}
)

var described = [reasons]describe{
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
		"Your smartcard has more than one certificate to sign with, and it is not clear which one is right. Nothing was signed.",
		"exactly one signing certificate with its key", []advisory.Remedy{toRA, toPaper}},
	CertificateDamaged: {"certificate_damaged", CheckCard, DecisionUndecided,
		"The certificate on your smartcard cannot be read. Nothing was signed.",
		"an X.509 certificate", []advisory.Remedy{toRA, toPaper}},
	SimulatedCard: {"simulated_card", CheckCard, DecisionRefused,
		"This is a simulated smartcard for tests. It cannot sign prescriptions for patients.",
		"a real smartcard", []advisory.Remedy{toIT, toPaper}},

	Affected: {"affected", CheckIssuance, DecisionRefused,
		"Your smartcard must be renewed before you sign any further prescriptions. Nothing was signed.",
		"a certificate that the notice does not cover", []advisory.Remedy{toRA, toPaper}},
	AffectedSoon: {"affected_soon", CheckIssuance, DecisionWarned,
		"Your smartcard must be renewed soon. You can still sign today.",
		"a certificate that the notice does not cover", []advisory.Remedy{toRA}},
	AffectedShadow: {"affected_shadow", CheckIssuance, DecisionAllowed,
		"A notice on trial covers your smartcard. You need not do anything.",
		"", nil},
	AffectedEnded: {"affected_ended", CheckIssuance, DecisionAllowed,
		"An earlier notice covered your smartcard. It has ended. You need not do anything.",
		"", nil},
	AffectedFixed: {"affected_fixed", CheckIssuance, DecisionAllowed,
		"A notice covers smartcards like yours. Yours has been renewed well. You need not do anything.",
		"", nil},
	AffectedUndecidable: {"affected_undecidable", CheckIssuance, DecisionUndecided,
		"It could not be told whether a notice covers your smartcard. Nothing was signed.",
		"evidence of who issued the certificate", []advisory.Remedy{toIT, toRA, toPaper}},
	RulesMissing: {"rules_missing", CheckIssuance, DecisionUndecided,
		"The rules to check your smartcard with are missing. Nothing was signed.",
		"a set of rules", []advisory.Remedy{toIT, toPaper}},
	RulesBackwards: {"rules_backwards", CheckIssuance, DecisionWarned,
		"An update of the rules was refused, because it would have gone backwards. The last good rules are in use.",
		"rules that follow the ones in use", []advisory.Remedy{toIT}},

	OnHold: {"on_hold", CheckHold, DecisionRefused,
		"Your smartcard was renewed. Take it out and put it back in before you sign. Nothing was signed.",
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
		"Your smartcard should be renewed soon. You can still sign.",
		"an instant inside the private key usage period", []advisory.Remedy{toRA}},

	NotForSigning: {"not_for_signing", CheckProfile, DecisionRefused,
		"The certificate on your smartcard is not one for signing. Nothing was signed.",
		"key usage contentCommitment (nonRepudiation)", []advisory.Remedy{toRA, toPaper}},
	KeyUsageNotCritical: {"key_usage_not_critical", CheckProfile, DecisionWarned,
		"The certificate on your smartcard is unusual. You can still sign.",
		"key usage marked critical", []advisory.Remedy{toRA}},
	KeyUsageExtra: {"key_usage_extra", CheckProfile, DecisionWarned,
		"The certificate on your smartcard is unusual. You can still sign.",
		"key usage contentCommitment alone", []advisory.Remedy{toRA}},
	ExtendedKeyUsage: {"extended_key_usage", CheckProfile, DecisionWarned,
		"The certificate on your smartcard is unusual. You can still sign.",
		"no extended key usage", []advisory.Remedy{toRA}},
	PolicyMissing: {"policy_missing", CheckProfile, DecisionWarned,
		"The certificate on your smartcard is unusual. You can still sign.",
		"certificate policy " + SigningPolicy, []advisory.Remedy{toRA}},
	UserIDMissing: {"user_id_missing", CheckProfile, DecisionWarned,
		"The certificate on your smartcard does not name your user number. You can still sign.",
		"a subject whose common name starts with a 12-digit user id", []advisory.Remedy{toRA}},
}

// notCheckedText says what silence of a verdict does not mean.
var notCheckedText = map[CheckName]string{
	CheckChain:      "the chain to a trusted root was not checked",
	CheckRevocation: "revocation was not checked",
	CheckStrength:   "the size and the strength of the key were not checked",
}
