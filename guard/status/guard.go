package status

import (
	"crypto/x509"
	"time"

	"github.com/rxguard/rxguard/guard"
)

// Current returns the snapshot itself, so that fixed lists serve wherever a source of
// snapshots is wanted.
func (s *Snapshot) Current() *Snapshot { return s }

// Prepare makes a Snapshot the guard.Revocation of a Guard: lists that stay as they
// are. See [Refresher.Prepare].
func (s *Snapshot) Prepare(chain []*x509.Certificate) (func(at time.Time) guard.RevocationStatus, error) {
	subject, err := NewSubject(chain)
	if err != nil {
		return nil, err
	}
	return func(at time.Time) guard.RevocationStatus { return s.Status(subject, at).forGuard() }, nil
}

// Floor is the newest thisUpdate among the verified lists of the newest Snapshot, in
// UTC: a clock that shows less is wrong. The zero time: there is none.
func (r *Refresher) Floor() time.Time { return r.Current().Floor() }

// Prepare, Floor and Current make a Refresher the guard.Revocation of a Guard, which
// then judges by the newest lists. Prepare reads memory alone. Where the certificate's
// issuer is known, so that a CA of the Guard's configuration signed it, the http URLs
// of its distribution points are followed from then on, as by [Refresher.Follow]; Run
// or Refresh has to be called for that. The error is that of NewSubject.
func (r *Refresher) Prepare(chain []*x509.Certificate) (func(at time.Time) guard.RevocationStatus, error) {
	subject, err := NewSubject(chain)
	if err != nil {
		return nil, err
	}
	if len(chain) > 1 {
		r.want(subject.URLs())
	}
	return func(at time.Time) guard.RevocationStatus { return r.Current().Status(subject, at).forGuard() }, nil
}

// forGuard is the result as package guard has it.
func (r Result) forGuard() guard.RevocationStatus {
	switch {
	case r.State == Good && !r.Late:
		return guard.RevocationStatus{State: guard.StatusGood}
	case r.State == Good:
		return guard.RevocationStatus{State: guard.StatusGood, Late: true, Detail: r.String()}
	case r.State == Revoked:
		return guard.RevocationStatus{State: guard.StatusRevoked, Reason: r.Entry.Reason.String(), Since: r.Entry.Revoked, Detail: r.String()}
	}
	return guard.RevocationStatus{Covered: r.List != nil || r.Why == BadPoints, Detail: r.String()}
}

// want notes URLs that are to be followed. It does no I/O.
func (r *Refresher) want(urls []string) {
	r.wanting.Lock()
	defer r.wanting.Unlock()
	for _, u := range urls {
		if !r.asked[u] && len(r.asked) < maxSources {
			r.asked[u] = true
			r.wanted = append(r.wanted, u)
		}
	}
	if len(r.wanted) > 0 {
		r.wakeUp()
	}
}

// followWanted follows what Prepare noted. A URL that cannot be fetched is told.
func (r *Refresher) followWanted() {
	r.wanting.Lock()
	wanted := r.wanted
	r.wanted = nil
	r.wanting.Unlock()
	for _, u := range wanted {
		if err := r.Follow(u); err != nil {
			r.tell(err)
		}
	}
}
