// Package need is how a test asks for something from outside the module: data in
// the folder that RXGUARD_DATA names, or a program on the PATH. What is missing
// skips the test with a sentence that says how to get it; the full test command
// turns each skip into a failure.
package need

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// Data returns the path of a file or folder below RXGUARD_DATA. Unset skips the
// test; set, missing data is a failure.
func Data(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("RXGUARD_DATA")
	if root == "" {
		t.Skipf("needs %s of the test data: set RXGUARD_DATA to the folder that holds it", filepath.Join(elem...))
	}
	p := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("RXGUARD_DATA is set, but its data is missing: %v", err)
	}
	return p
}

// Read returns a file below RXGUARD_DATA, under the rules of Data.
func Read(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(Data(t, elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Tool returns the path of a program, which the named Debian package provides.
func Tool(t testing.TB, name, debian string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs the program %s: apt-get install %s", name, debian)
	}
	return p
}

// File returns the first file that one of the patterns of filepath.Glob finds; the
// named Debian package provides it.
func File(t testing.TB, what, debian string, patterns ...string) string {
	t.Helper()
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			t.Fatalf("pattern of %s: %v", what, err)
		}
		if len(found) > 0 {
			return found[0]
		}
	}
	t.Skipf("needs %s: apt-get install %s", what, debian)
	return ""
}

// MountNamespace returns the command that runs a program in a mount namespace of its
// own, before that program and its arguments.
func MountNamespace(t testing.TB) []string {
	t.Helper()
	unshare := Tool(t, "unshare", "util-linux")
	for _, args := range [][]string{{"-m"}, {"-m", "-r"}} { // as root; as anybody, where that is allowed
		command := append(append([]string{unshare}, args...), "--propagation", "private")
		if exec.Command(command[0], append(command[1:], "mount", "-t", "tmpfs", "tmpfs", "/run")...).Run() == nil {
			return command
		}
	}
	t.Skip("needs a mount namespace: run the test as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)")
	return nil
}

// Cases sets how many random cases rapid runs in a test: 100, and the full number
// under make soak, which sets RXGUARD_SOAK. Both are logged, for the test command to
// print.
func Cases(t testing.TB, full int) {
	t.Helper()
	n := 100
	if os.Getenv("RXGUARD_SOAK") != "" {
		n = full
	}
	if err := flag.Set("rapid.checks", strconv.Itoa(n)); err != nil {
		t.Fatalf("rapid is not part of this test: %v", err)
	}
	t.Logf("%d random cases (make soak: %d)", n, full)
}

// Another ends an action of a random walk that cannot be taken as things stand, with
// the reason: rapid (pgregory.net/rapid) then takes another in its place. It leaves
// out no test.
func Another(t interface{ Skip(...any) }, why string) {
	t.Skip("rapid takes another action: " + why)
}
