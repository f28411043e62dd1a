package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
)

// openModule loads the module of --module.
func openModule(ctx context.Context, o options) (*p11.Module, error) {
	if isSoftokn(o.module) && o.arguments != "" && !configDir.MatchString(o.arguments) {
		// softokn reads arguments without it through a nil pointer.
		return nil, &usageError{fmt.Errorf("--module-arguments %q names no folder; NSS softokn wants %s", o.arguments, softoknArguments)}
	}
	m, err := p11.Open(ctx, o.module, p11.Options{Arguments: o.arguments})
	var path *fs.PathError
	switch {
	case err == nil, ctx.Err() != nil, card.IsKind(err, card.Wedged):
		return m, err
	case errors.As(err, &path): // the file is not there
	case isSoftokn(o.module) && o.arguments == "":
		err = fmt.Errorf("%w; NSS softokn wants --module-arguments %s", err, softoknArguments)
	case isSoftokn(o.module):
		err = fmt.Errorf("%w; is there an NSS database where --module-arguments says? certutil -N -d sql:FOLDER makes one", err)
	case strings.Contains(filepath.Base(o.module), "softhsm") && os.Getenv("SOFTHSM2_CONF") != "":
		err = fmt.Errorf("%w; its configuration is the file that SOFTHSM2_CONF names, %s", err, os.Getenv("SOFTHSM2_CONF"))
	}
	return nil, &usageError{err}
}

const softoknArguments = `"configdir='sql:FOLDER'", with the folder of its database`

// configDir fits arguments that name a folder.
var configDir = regexp.MustCompile(`(?i)\bconfigdir=['"]?[^\s'"]`)

// isSoftokn tells whether a module is NSS softokn, by the name of its file.
func isSoftokn(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return strings.Contains(strings.ToLower(filepath.Base(path)), "softokn3")
}

// notFound puts in plain words why the token is not there to work on.
func (t *testToken) notFound(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return err
	case card.IsKind(err, card.Absent):
		return &stopError{text: fmt.Sprintf("No token %q is in a reader of %s; %s.\nPut it in, and run this again.", t.o.token, t.o.module, tokensOf(ctx, t.module)), err: err}
	case card.IsKind(err, card.Ambiguous):
		return &stopError{text: fmt.Sprintf("More than one token is called %q; %s.\nName the one that is meant by its serial number: --token SERIAL.", t.o.token, tokensOf(ctx, t.module)), err: err}
	case card.IsKind(err, card.Fault), card.IsKind(err, card.Other):
		return &stopError{text: noReaders(t.o.module, err), err: err}
	}
	return err
}

func noReaders(module string, err error) string {
	return fmt.Sprintf("The readers of %s cannot be looked at: %v.\n%s", module, err, isItRunning)
}

const isItRunning = "Is the card service running? On Linux that is pcscd."

// tokensOf says which tokens there are.
func tokensOf(ctx context.Context, m *p11.Module) string {
	slots, err := m.Slots(ctx)
	if err != nil {
		return "what is in the readers cannot be told"
	}
	var names []string
	for _, s := range slots {
		if s.Present && s.Initialized {
			names = append(names, fmt.Sprintf("%q (serial %s)", s.Label, s.Serial))
		}
	}
	switch {
	case len(slots) == 0:
		return "it has no reader at all. " + strings.TrimSuffix(isItRunning, ".")
	case len(names) == 0:
		return "no token is in any reader that was set up"
	}
	return "in the readers: " + strings.Join(names, ", ")
}

// others says what a person who puts this token back should know of the readers: that
// they cannot be looked at, or that another card is in one. Empty: nothing.
func (t *testToken) others(ctx context.Context) string {
	slots, err := t.module.Slots(ctx)
	if err != nil {
		return noReaders(t.o.module, err)
	}
	var names []string
	for _, s := range slots {
		if s.Present && s.Initialized && s.LoginRequired && (s.Serial != t.file.Serial || s.Label != t.file.Label) {
			names = append(names, fmt.Sprintf("%q (serial %s)", s.Label, s.Serial))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("Another card is in a reader: %s. The one that is waited for is %q (serial %s).", strings.Join(names, ", "), t.file.Label, t.file.Serial)
}
