package renewaltest

import (
	"context"

	"github.com/rxguard/rxguard/internal/testcard"
)

// CheckWithCachedKeys is Check, but makes the keys of its requests once in a process.
func CheckWithCachedKeys(ctx context.Context, c Config) error {
	s, err := newSuite(c, testcard.CachedKeys())
	if err != nil {
		return err
	}
	return s.check(ctx)
}
