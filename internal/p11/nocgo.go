//go:build !cgo

package p11

import (
	"context"

	"github.com/rxguard/rxguard/internal/card"
)

// Module is a PKCS#11 module; without cgo there is none.
type Module struct{}

// Open needs cgo.
func Open(context.Context, string, Options) (*Module, error) { return nil, ErrNoCgo }

// Rest has nothing to wait for.
func (*Module) Rest(context.Context) {}

// Slots needs cgo.
func (*Module) Slots(context.Context) ([]Slot, error) { return nil, ErrNoCgo }

// Watch needs cgo.
func (*Module) Watch(context.Context, func(Event)) error { return ErrNoCgo }

// Token needs cgo.
func (*Module) Token(context.Context, Select, Officer) (*Token, error) { return nil, ErrNoCgo }

// Token is a card behind a module; without cgo there is none.
type Token struct{}

// Presence says that no card is there.
func (*Token) Presence() card.Presence { return card.Presence{} }

// Wait needs cgo.
func (*Token) Wait(context.Context, card.Presence) (card.Presence, error) {
	return card.Presence{}, ErrNoCgo
}

// Open needs cgo.
func (*Token) Open(context.Context) (card.Session, error) { return nil, ErrNoCgo }

// Simulated tells that it is a real card.
func (*Token) Simulated() bool { return false }

// Close does nothing.
func (*Token) Close() error { return nil }
