package testcard_test

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

// The ways out of a login, as another program sees them in a reader: it asks for the
// tries left (SP 800-73-4 part 2, 3.2.1), which is answered with 9000 while somebody is
// logged in.
func TestLogoutInAReader(t *testing.T) {
	const (
		login      = "0020008008313233343536FFFF"
		tries      = "00200080"
		selectPIV  = "00A4040005A000000308"
		logout     = "0020FF80"
		management = "00A4040008A000000527471117"
		otp        = "00A4040007A0000005272001"
	)
	d := modules.PCSCD(t, 1)
	c, err := testcard.New(testcard.Config{})
	require.NoError(t, err)
	d.Plug(t, 0, c)
	opensc := need.Tool(t, "opensc-tool", "opensc")
	for name, x := range map[string]struct {
		send, want []string
	}{
		"PIV selected again":               {[]string{selectPIV, tries}, []string{"9000", "9000"}},
		"VERIFY with P1 FF":                {[]string{logout, tries}, []string{"9000", "63C3"}},
		"the management application":       {[]string{management, tries}, []string{"9000", "63C3"}}, // opensc-tool selects PIV again
		"the OTP application":              {[]string{otp, tries}, []string{"9000", "63C3"}},
		"an application that is not on it": {[]string{"00A4040006A00000007901", tries}, []string{"6A82", "9000"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"-s", login}
			for _, apdu := range x.send {
				args = append(args, "-s", apdu)
			}
			out, err := exec.Command(opensc, args...).CombinedOutput()
			require.NoError(t, err, string(out))
			var got []string
			for _, sw := range regexp.MustCompile(`SW1=0x([0-9A-F]{2}), SW2=0x([0-9A-F]{2})`).FindAllSubmatch(out, -1) {
				got = append(got, string(sw[1])+string(sw[2]))
			}
			assert.Equal(t, append([]string{"9000"}, x.want...), got, string(out))
		})
	}
}
