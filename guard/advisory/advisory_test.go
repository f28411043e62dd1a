package advisory

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestAtTellsThePhaseOfEveryStateAtItsBoundaries(t *testing.T) {
	published, block, end := at("2026-03-01T09:00:00Z"), at("2026-03-03T00:00:00Z"), at("2026-03-04T00:00:00Z")
	const second = time.Second
	for _, tt := range []struct {
		name  string
		state State
		block time.Time
		at    time.Time
		want  Phase
	}{
		{"a draft does nothing", Draft, block, block, Silent},
		{"an unknown state does nothing", "", block, block, Silent},
		{"a shadow observes before block_from", Shadow, block, block.Add(-second), Observed},
		{"a shadow observes ever after", Shadow, block, block.AddDate(9, 0, 0), Observed},
		{"an active one is announced before it is published", Active, block, published.Add(-second), Announced},
		{"an active one is announced a second before block_from", Active, block, block.Add(-second), Announced},
		{"an active one is enforced at block_from", Active, block, block, Enforced},
		{"an active one is enforced a second after block_from", Active, block, block.Add(second), Enforced},
		{"without block_from it is announced a second before it is published", Active, time.Time{}, published.Add(-second), Announced},
		{"without block_from it is enforced when published", Active, time.Time{}, published, Enforced},
		{"a resolved one was announced before block_from", Resolved, block, block.Add(-second), Announced},
		{"a resolved one was enforced a second before its end", Resolved, block, end.Add(-second), Enforced},
		{"a resolved one is over at its end", Resolved, block, end, Ended},
		{"a resolved one stays over", Resolved, block, end.AddDate(9, 0, 0), Ended},
		{"one resolved before it took effect was announced", Resolved, end, end.Add(-second), Announced},
		{"one resolved before it took effect never refuses", Resolved, end, end, Ended},
		{"a superseded one was enforced a second before its end", Superseded, block, end.Add(-second), Enforced},
		{"a superseded one is over at its end", Superseded, block, end, Ended},
		{"a withdrawn one is over before its end too", Withdrawn, block, end.Add(-second), Ended},
		{"a withdrawn one is over after its end", Withdrawn, block, end.Add(second), Ended},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &Advisory{State: tt.state, Published: published, BlockFrom: tt.block}
			if tt.state.ended() {
				a.EndedAt = end
			}
			assert.Equal(t, tt.want, a.At(tt.at))
			assert.Equal(t, tt.want, a.At(tt.at.In(time.FixedZone("BST", 3600))), "in another time zone")
		})
	}
}
