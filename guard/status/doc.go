// Package status says whether a certificate is revoked, by certificate revocation
// lists (CRL, and ARL for CAs; RFC 5280 sections 5 and 6.3): [Good], [Revoked] with
// reason and date, or [Unknown] and why, each with the list that it rests on.
//
// It fails closed: good needs lists that cover the certificate, are signed by who may
// sign them, and are in date. Evidence of revocation counts however old it is.
// Reasons and dates are judged as the national prescription service does. A status is
// as of an instant: the question is whether a signature made then stands.
//
// Lists are read with [Parse]; a [Snapshot] holds those that were verified by a
// [Trust] and is asked with a [Subject], a certificate prepared once:
//
//	trust, err := status.NewTrust(roots, intermediates)
//	list, err := status.Parse(der, 0)
//	snapshot, err := status.NewSnapshot(trust, 0, list)
//	subject, err := status.NewSubject(chain) // of x509.Certificate.Verify
//	result := snapshot.Status(subject, time.Now())
//
// A [Refresher] fetches lists in the background, keeps them on disk, and always has a
// Snapshot ready: asking it waits for nothing. It is what guard.Config.Revocation
// takes, and so is a Snapshot, for lists that stay as they are:
//
//	lists, err := status.NewRefresher(status.RefresherConfig{Trust: trust, Folder: folder})
//	go lists.Run(ctx)
//	g, err := guard.New(guard.Config{Roots: roots, Issuers: intermediates, Revocation: lists})
//
// Handled are issuing distribution points, partitions by distribution point and by
// reason, indirect lists and separate CRL issuers. Delta lists are not used, as RFC
// 5280 5.2.4 allows: a certificate that only a delta list revokes is as fresh as its
// base list. Lists are fetched over plain http, and not over LDAP. There is no OCSP.
//
// Paths are built by crypto/x509 alone. Files are replaced through
// github.com/moby/sys/atomicwriter (kept by the Moby project; needs x/sys only) and
// locked through github.com/gofrs/flock (kept by its owners since 2015; x/sys only);
// the rest is the standard library.
package status
