// Package bench measures rxguard beside its peers: exclusive C14N beside libxml2 and
// github.com/russellhaering/goxmldsig; a check of a certificate beside crypto/x509,
// github.com/titanous/rocacheck and github.com/zmap/zlint; and what the guard costs, a
// guarded signature beside bare C_Sign and beside github.com/ThalesGroup/crypto11, each
// with the verification, with
// one key on one SoftHSM token. The peers take turns in one process, so that the
// machine's noise is everybody's; what one takes longer than another is the median
// over all rounds. From the top folder:
//
//	make bench
//
// It is a module of its own, so that its peers are no part of the library's.
package bench
