package renewal

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// inNamespace runs this test again in a mount namespace of its own, where folder is a
// file system of so many bytes, and returns "" in the process that asked for it.
func inNamespace(t *testing.T, size string) string {
	t.Helper()
	const name = "RXGUARD_TEST_SMALL_DISK"
	if dir := os.Getenv(name); dir != "" {
		return dir
	}
	namespace, mount := need.MountNamespace(t), need.Tool(t, "mount", "mount")
	dir := t.TempDir()
	cmd := exec.Command(namespace[0], append(namespace[1:], "sh", "-c", `"$1" -t tmpfs -o size="$2" tmpfs "$3" && shift 3 && exec "$@"`, "sh",
		mount, size, dir, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")...)
	cmd.Env = append(os.Environ(), name+"="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	t.Logf("%s", out)
	return ""
}

// small is a file system of its own that is filled up and emptied.
type small struct {
	t   *testing.T
	dir string
}

func (s small) ballast() string { return filepath.Join(s.dir, "ballast") }

// fill leaves no page of it.
func (s small) fill() {
	s.t.Helper()
	f, err := os.OpenFile(s.ballast(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(s.t, err)
	defer f.Close()
	for page := make([]byte, 4096); ; {
		if _, err := f.Write(page); err != nil {
			require.ErrorIs(s.t, err, syscall.ENOSPC)
			return
		}
	}
}

func (s small) empty() {
	s.t.Helper()
	if err := os.Remove(s.ballast()); !errors.Is(err, fs.ErrNotExist) {
		require.NoError(s.t, err)
	}
}

// counted says whether this one of a long list is made: each of them under make soak,
// which sets RXGUARD_SOAK.
func counted(i int) bool { return i%3 == 0 || os.Getenv("RXGUARD_SOAK") != "" }

// wasFull asserts how a call ends that found the disk full.
func wasFull(t *testing.T, res Result, err error, what string) {
	t.Helper()
	assert.Contains(t, []Outcome{Resumable, Refusal}, res.Outcome, what)
	e := ends(t, res, err, res.Outcome, "no space left")
	assert.ErrorIs(t, e, syscall.ENOSPC, what)
	assert.Regexp(t, "disk is full|cannot be written", res.Text, what)
}

// A renewal on a disk that gets full before any of its side effects says so, leaves the
// card whole, does nothing further, and goes on when there is room.
func TestADiskThatGetsFullAnywhere(t *testing.T) {
	dir := inNamespace(t, "256k")
	if dir == "" {
		return
	}
	points := append([]string{""}, crashPoints(t)...)
	full, runs := 0, 0
	for i, at := range points {
		if !counted(i) {
			continue
		}
		runs++
		s := small{t, dir}
		w := newWorld(t, func(u *setUp) { u.dir = filepath.Join(dir, "state") })
		if at == "" {
			s.fill()
		}
		res, err := w.crashing(func(p string) error {
			if p == at {
				s.fill()
			}
			return nil
		}).Renew(t.Context(), nil)
		w.sound(at)
		if err == nil {
			require.Equal(t, ReseatCard, res.Outcome, "the rest found room in what was there")
		} else {
			full++
			wasFull(t, res, err, at)
			before := len(w.ops(changes...))
			w.restart()
			res, err = w.renewer().Renew(t.Context(), nil)
			wasFull(t, res, err, at)
			w.sound(at)
			assert.Len(t, w.ops(changes...), before, "%s: nothing further was done to the card", at)
			if _, err := w.renewer().Plan(t.Context()); err != nil {
				assert.ErrorIs(t, err, syscall.ENOSPC, at)
			}
		}
		s.empty()
		w.restart()
		w.finish(at)
		w.newAlone()
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "state")))
	}
	t.Logf("the disk was full in %d of %d runs, of %d under make soak", full, runs, len(points))
	assert.Greater(t, full, runs/2)
}

// Giving up and finishing on a full disk end the same way.
func TestARenewalThatEndsOnAFullDisk(t *testing.T) {
	dir := inNamespace(t, "256k")
	if dir == "" {
		return
	}
	s := small{t, dir}
	for _, begun := range []Step{StepPlanned, StepKey, StepEnrol, StepWrite} {
		w := newWorld(t, func(u *setUp) { u.dir = filepath.Join(dir, "state") })
		w.mustBegin(begun)
		w.restart()
		s.fill()
		res, err := w.renewer().Abandon(t.Context())
		if err != nil {
			wasFull(t, res, err, string(begun))
		}
		w.oldIsThere()
		s.empty()
		w.restart()
		if err != nil {
			_, err = w.renewer().Abandon(t.Context())
			require.NoError(t, err)
		}
		w.oldAlone()
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "state")))
	}
	w := newWorld(t, func(u *setUp) { u.dir = filepath.Join(dir, "state") })
	w.mustRenew()
	w.reseat()
	s.fill()
	res, err := w.renewer().Finish(t.Context(), w.signer())
	if err != nil {
		ends(t, res, err, res.Outcome, "no space left")
	}
	w.newAlone()
	s.empty()
	res, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
	assert.Nil(t, w.hold())
	w.mustSign()
}

// A folder that cannot be written, because its file system is read-only: no renewal
// begins, none goes on, and the card is not touched.
func TestAFolderThatIsReadOnly(t *testing.T) {
	dir := inNamespace(t, "1m")
	if dir == "" {
		return
	}
	remount := func(how string) {
		t.Helper()
		out, err := exec.Command("mount", "-o", "remount,"+how, dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	stopped := func(res Result, err error) {
		t.Helper()
		assert.Contains(t, []Outcome{Resumable, Refusal}, res.Outcome)
		e := ends(t, res, err, res.Outcome, "read-only file system")
		assert.ErrorIs(t, e, syscall.EROFS)
		assert.Contains(t, e.Error(), dir, "the folder is named")
		assert.Regexp(t, "cannot be written|could not write down", res.Text)
	}
	for _, begun := range []Step{"", StepPlanned, StepKey, StepEnrol, StepProve, StepRetire} {
		w := newWorld(t, func(u *setUp) { u.dir = filepath.Join(dir, "state") })
		if begun == "" {
			require.NoError(t, w.dir.Make("journals"))
			require.NoError(t, os.WriteFile(journalPath(w.dir.Path(), w.id), nil, 0o600))
		} else {
			w.mustBegin(begun)
		}
		w.restart()
		remount("ro")
		w.untouchedButForTheCheck(t, func() {
			stopped(w.renewer().Renew(t.Context(), nil))
			plan, err := w.renewer().Plan(t.Context())
			require.NoError(t, err, "it writes nothing")
			assert.Equal(t, Ready, plan.Outcome)
			if begun != StepRetire { // past where it can be given up
				stopped(w.renewer().Abandon(t.Context()))
			}
		})
		remount("rw")
		w.restart()
		w.finish(string(begun))
		w.newAlone()
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "state")))
	}

	w := newWorld(t, func(u *setUp) { u.dir = filepath.Join(dir, "state") })
	w.mustRenew()
	w.reseat()
	remount("ro")
	w.untouchedButForTheCheck(t, func() {
		res, err := w.renewer().Finish(t.Context(), w.signer())
		e := ends(t, res, err, ReseatCard, "still on hold", "could not write down")
		assert.ErrorIs(t, e, syscall.EROFS)
	})
	remount("rw")
	res, err := w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
}
