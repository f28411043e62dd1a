package status_test

import (
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// kept are the files of a folder with a suffix.
func kept(t *testing.T, folder, suffix string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	require.NoError(t, err)
	return files
}

// folderOf is a Refresher over a folder, and what it told.
func folderOf(t *testing.T, w *world, folder string, s *site, urls ...string) (*status.Refresher, *[]error) {
	t.Helper()
	var told []error
	r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: urls, Client: s.client(), Folder: folder,
		MaxBytes: 1 << 20, Trouble: func(err error) { told = append(told, err) }})
	require.NoError(t, err)
	return r, &told
}

func TestListsOutliveTheProcess(t *testing.T) {
	w := newWorld(t)
	folder := filepath.Join(t.TempDir(), "below", "lists")
	s := &site{}
	der := crl{by: w.ca, number: 1, thisUpdate: time.Now().Add(-time.Hour), entries: [][]byte{entry(w.leaf.SerialNumber, yesterday)}}.der(t)
	s.serve(der, `"one"`)
	r, _ := folderOf(t, w, folder, s, listURL)
	require.NoError(t, r.Refresh(t.Context()))
	files := kept(t, folder, ".crl")
	require.Len(t, files, 1)
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	assert.Equal(t, der, b, "as it was fetched: other tools can read it")
	assert.Len(t, kept(t, folder, ".json"), 1)

	again, told := folderOf(t, w, folder, s, listURL)
	assert.Empty(t, *told)
	revoked().check(t, again.Current().Status(w.subject(t), time.Now()))
	source := again.Sources()[0]
	assert.Equal(t, r.Current().Floor(), source.List.ThisUpdate())
	assert.WithinDuration(t, time.Now(), source.Checked, time.Hour)
	assert.InDelta(t, time.Hour, source.Next.Sub(source.Checked), float64(time.Hour)/8, "a restart asks no earlier")
	require.NoError(t, again.Refresh(t.Context()))
	assert.Equal(t, `"one"`, s.heads[1].Get("If-None-Match"))
}

func TestADamagedFolderIsNoneAndTold(t *testing.T) {
	w := newWorld(t)
	s := &site{}
	der := crl{by: w.ca, number: 1, thisUpdate: time.Now().Add(-time.Hour), entries: [][]byte{entry(big.NewInt(7), yesterday)}}.der(t)
	other := crl{by: w.root, number: 1, thisUpdate: time.Now().Add(-time.Hour)}.der(t)
	imposter := crl{by: certify(t, "CA", newKey(t), nil), number: 1}.der(t)
	flipped := slices.Clone(der)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"torn":                {der[:len(der)/2], "truncated"},
		"empty":               {nil, "the end"},
		"zeros":               {make([]byte, 500), "wanted DER or one PEM block"},
		"a changed signature": {flipped, "not verified"},
		"another's":           {imposter, "not verified"},
		"a list of another":   {other, "another list than its name says"},
		"huge":                {make([]byte, 1<<20+1), "larger than the limit"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			s.serve(der, `"one"`)
			r, _ := folderOf(t, w, folder, s, listURL)
			require.NoError(t, r.Refresh(t.Context()))
			file := kept(t, folder, ".crl")[0]
			require.NoError(t, os.WriteFile(file, c.content, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "notes.txt"), nil, 0o600))
			require.NoError(t, os.Mkdir(filepath.Join(folder, strings.Repeat("a", 64)+".crl"), 0o700))

			r, told := folderOf(t, w, folder, s, listURL)
			unknown(status.NoList).check(t, r.Current().Status(w.subject(t), time.Now()))
			require.Len(t, *told, 2)
			all := errors.Join(*told...)
			assert.ErrorContains(t, all, strings.Repeat("a", 64)+".crl is ignored: it is no regular file")
			assert.ErrorContains(t, all, file+" is ignored: ")
			assert.ErrorContains(t, all, c.says)
			assert.True(t, r.Sources()[0].Next.Before(time.Now()), "it is fetched at once")
			require.NoError(t, r.Refresh(t.Context()))
			assert.Empty(t, s.heads[len(s.heads)-1].Get("If-None-Match"), "validators count with their list alone")
			good().check(t, r.Current().Status(w.subject(t), time.Now()))
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, der, b, "and the file is whole again")
		})
	}
	t.Run("a damaged note", func(t *testing.T) {
		folder := t.TempDir()
		s.serve(der, `"one"`)
		r, _ := folderOf(t, w, folder, s, listURL)
		require.NoError(t, r.Refresh(t.Context()))
		whole, err := os.ReadFile(kept(t, folder, ".json")[0])
		require.NoError(t, err)
		for _, content := range []string{"", "{", strings.Replace(string(whole), listURL, "http://elsewhere/", 1), strings.Repeat(" ", 1<<20)} {
			require.NoError(t, os.WriteFile(kept(t, folder, ".json")[0], []byte(content), 0o600))
			r, told := folderOf(t, w, folder, s, listURL)
			assert.Empty(t, *told)
			good().check(t, r.Current().Status(w.subject(t), time.Now()))
			require.NoError(t, r.Refresh(t.Context()))
			assert.Empty(t, s.heads[len(s.heads)-1].Get("If-None-Match"))
		}
	})
	t.Run("a note of tomorrow", func(t *testing.T) {
		folder := t.TempDir()
		s.serve(der, `"one"`)
		r, _ := folderOf(t, w, folder, s, listURL)
		require.NoError(t, r.Refresh(t.Context()))
		file := kept(t, folder, ".json")[0]
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		was := time.Now().UTC().Format("2006-")
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(b), was, "2099-", 1)), 0o600))
		r, _ = folderOf(t, w, folder, s, listURL)
		assert.True(t, r.Sources()[0].Next.Before(time.Now()), "the clock was wrong then: ask now")
	})
}

// Two processes share a folder: neither writes an older list over a newer one, and who
// comes with an older one takes the newer.
func TestTheFolderNeverGoesBackwards(t *testing.T) {
	w := newWorld(t)
	folder := t.TempDir()
	hour := time.Now().Add(-time.Hour)
	older := crl{by: w.ca, number: 1, thisUpdate: hour}.der(t)
	newer := crl{by: w.ca, number: 2, thisUpdate: hour.Add(time.Minute), entries: [][]byte{entry(w.leaf.SerialNumber, yesterday)}}.der(t)
	s1, s2 := &site{body: older}, &site{body: newer}
	r1, _ := folderOf(t, w, folder, s1, listURL)
	r2, _ := folderOf(t, w, folder, s2, listURL)
	require.NoError(t, r2.Refresh(t.Context()))
	assert.ErrorIs(t, r1.Refresh(t.Context()), status.ErrOlder)
	revoked().check(t, r1.Current().Status(w.subject(t), time.Now()))
	b, err := os.ReadFile(kept(t, folder, ".crl")[0])
	require.NoError(t, err)
	assert.Equal(t, newer, b)

	again, told := folderOf(t, w, folder, s1, listURL)
	assert.Empty(t, *told)
	assert.ErrorIs(t, again.Refresh(t.Context()), status.ErrOlder, "nor after a restart")
	s1.serve(newer, "")
	assert.NoError(t, again.Refresh(t.Context()), "the same is not older")
}

// A folder that cannot be written is told; the list counts all the same.
func TestAListThatCannotBeKeptCounts(t *testing.T) {
	w := newWorld(t)
	folder := t.TempDir()
	s := &site{body: crl{by: w.ca, number: 1, thisUpdate: time.Now().Add(-time.Hour)}.der(t)}
	r, told := folderOf(t, w, folder, s, listURL)
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, r.Refresh(t.Context()))
	good().check(t, r.Current().Status(w.subject(t), time.Now()))
	assert.Len(t, *told, 2)

}

func TestAListCountsWhileAnotherProcessHasTheLock(t *testing.T) {
	folder := t.TempDir()
	l := flock.New(filepath.Join(folder, "lock"))
	require.NoError(t, l.Lock())
	defer l.Close()
	synctest.Test(t, func(t *testing.T) { // the lock is waited for as long as a fetch may take
		w := new(world).since1990(t)
		s := &site{body: w.issue(t, 1)}
		r, told := folderOf(t, w, folder, s, listURL)
		require.NoError(t, r.Refresh(t.Context()))
		good().check(t, r.Current().Status(w.subject(t), time.Now()))
		require.Len(t, *told, 1)
		assert.ErrorContains(t, (*told)[0], "lock")
		assert.Empty(t, kept(t, folder, ".crl"))
	})
}

func TestListsOfEachPointHaveTheirFile(t *testing.T) {
	w := newWorld(t)
	folder := t.TempDir()
	hour := time.Now().Add(-time.Hour)
	s := &site{body: crl{by: w.ca, number: 1, thisUpdate: hour, exts: [][]byte{idp(tlv(0x83, reasonBits(1, 2, 8)))}}.der(t)}
	r, _ := folderOf(t, w, folder, s, listURL, listURL+"2")
	require.NoError(t, r.Refresh(t.Context()))
	assert.Len(t, kept(t, folder, ".crl"), 1, "one list at two URLs is one file")
	s.serve(crl{by: w.ca, number: 1, thisUpdate: hour.Add(-time.Hour), exts: [][]byte{idp(tlv(0x83, reasonBits(3, 4, 5, 6, 7)))}}.der(t), "")
	require.NoError(t, r.Refresh(t.Context()))
	assert.Len(t, kept(t, folder, ".crl"), 2)
	again, _ := folderOf(t, w, folder, s)
	good().check(t, again.Current().Status(w.subject(t), time.Now()))
}

func TestListsThatWereGivenCountFromTheStart(t *testing.T) {
	w := newWorld(t)
	l := crl{by: w.ca, thisUpdate: time.Now().Add(-time.Hour)}.list(t)
	r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), Lists: []*status.List{nil, l}})
	require.NoError(t, err)
	good().check(t, r.Current().Status(w.subject(t), time.Now()))
	s := &site{body: crl{by: w.ca, number: 1, thisUpdate: time.Now().Add(-time.Minute), entries: [][]byte{entry(w.leaf.SerialNumber, yesterday)}}.der(t)}
	r, err = status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), Lists: []*status.List{l}, URLs: []string{listURL}, Client: s.client()})
	require.NoError(t, err)
	require.NoError(t, r.Refresh(t.Context()))
	revoked().check(t, r.Current().Status(w.subject(t), time.Now()))
}
