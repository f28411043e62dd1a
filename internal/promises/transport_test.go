package promises

import (
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/renewal"
)

// shown lists what a value shows to who asserts and reflects: its exported methods
// and fields. The walk of the API cannot see behind an interface.
func shown(v any) []string {
	t := reflect.TypeOf(v)
	var list []string
	for m := range t.Methods() {
		list = append(list, m.Name)
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() {
				list = append(list, f.Name)
			}
		}
	}
	slices.Sort(list)
	return list
}

// P1: an Enroller's http.Client can make round trips, and nothing else can be had
// of it: an http.Transport would show its TLS configuration, and that the key.
func TestAnEnrollersClientShowsNothingButRoundTrips(t *testing.T) {
	c := renewal.SoftwareTransport(nil, time.Now).Client(nil)
	require.NotNil(t, c.Transport)
	assert.Equal(t, []string{"RoundTrip"}, shown(c.Transport))
	assert.Nil(t, c.Jar)
	assert.Contains(t, shown(&http.Transport{}), "TLSClientConfig", "an http.Transport, planted")
}
