package renewaltest_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/renewaltest"
)

// An Enroller that talks to an authority in memory is tested, and then one that refuses
// to be asked again. In a test, renewaltest.Run takes the same Config.
func ExampleCheck() {
	a, err := newAuthority()
	if err != nil {
		log.Fatal(err)
	}
	config := renewaltest.Config{
		New:       func() (renewal.Enroller, error) { return &channel{authority: a}, nil },
		At:        func(address string) (renewal.Enroller, error) { return &channel{a, address}, nil },
		Transport: func(now func() time.Time) *renewal.Transport { return renewal.SoftwareTransport(nil, now) },
		Current:   a.cert, // its subject is that of the requests
		Issued:    a.count,
	}
	fmt.Println(renewaltest.Check(context.Background(), config))

	config.New = func() (renewal.Enroller, error) { return &forgetful{channel{authority: a}}, nil }
	fmt.Println(renewaltest.Check(context.Background(), config) != nil)
	// Output:
	// <nil>
	// true
}

// forgetful refuses a request that it has seen.
type forgetful struct{ channel }

func (f *forgetful) Enrol(ctx context.Context, t *renewal.Transport, r renewal.Request) (renewal.Answer, error) {
	f.mu.Lock()
	seen := f.issued[r.ID] != nil
	f.mu.Unlock()
	if seen {
		return renewal.Answer{}, &renewal.EnrolError{Kind: renewal.Rejected, Detail: "this request was answered before"}
	}
	return f.channel.Enrol(ctx, t, r)
}
