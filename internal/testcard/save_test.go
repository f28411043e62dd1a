package testcard

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

func full(t testing.TB) *Card {
	t.Helper()
	c := newCard(t, Config{Serial: "77", Label: "a card", PIN: []byte("2468"), Tries: 5, Containers: 6, PSS: true, NoDestroy: true, AlwaysAuthenticate: true})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Label: "one", Key: rsaKey(), Certificate: []byte("one"), AlwaysAuthenticate: true}))
	require.NoError(t, c.Provision(Pair{ID: []byte{2}, Label: "two", Key: ecKey(), Public: rsaKey().Public()}))
	require.NoError(t, c.Provision(Pair{ID: []byte{3}, Certificate: []byte("alone")}))
	return c
}

// state is what must survive a restart.
func state(t testing.TB, c *Card) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.encode()
	require.NoError(t, err)
	return string(b)
}

func TestSaveAndLoad(t *testing.T) {
	c := full(t)
	c.Remove()
	c.Insert()
	s := open(t, c)
	require.Error(t, s.Login(t.Context(), []byte("0000")))
	path := filepath.Join(t.TempDir(), "card.json")
	require.NoError(t, c.Save(path))

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(text), "{\n  \"simulated_card\": \"This is an rxguard simulated card."), "its head says what it is")
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode())
	}

	again, err := Load(path)
	require.NoError(t, err)
	assert.Equal(t, state(t, c), state(t, again))
	assert.Equal(t, 4, again.TriesLeft())
	assert.Equal(t, card.Presence{Present: true, Insertion: 2}, again.Token().Presence(), "nobody took it out meanwhile")
	since, err := again.Token().Wait(t.Context(), card.Presence{})
	require.NoError(t, err)
	assert.Equal(t, uint64(2), since.Insertion, "what was before the load is not told again")

	re := open(t, again)
	require.NoError(t, re.Login(t.Context(), []byte("2468")))
	_, err = re.Sign(t.Context(), []byte{1}, digest[:], crypto256)
	require.NoError(t, err)
	again.Remove()
	again.Insert()
	assert.Equal(t, uint64(3), again.Token().Presence().Insertion, "the insertion counter goes on")
}

func TestSaveToKeepsTheFileAsTheCardIs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "card.json")
	c := withKey(t, Config{})
	require.NoError(t, c.SaveTo(path))
	agrees := func(what string) {
		t.Helper()
		onDisk, err := Load(path)
		require.NoError(t, err, what)
		assert.Equal(t, state(t, c), state(t, onDisk), what)
	}
	agrees("start")
	s, ctx := open(t, c), t.Context()
	require.Error(t, s.Login(ctx, []byte("000000")))
	agrees("wrong passcode")
	require.NoError(t, s.Login(ctx, []byte(DefaultPIN)))
	agrees("login")
	require.NoError(t, trySign(s))
	agrees("signature")
	_, err := s.Generate(ctx, card.KeySpec{ID: newID, Label: "new"})
	require.NoError(t, err)
	agrees("generate")
	require.NoError(t, s.WriteCertificate(ctx, newID, "new", []byte("new")))
	agrees("certificate")
	require.NoError(t, s.Destroy(ctx, card.PrivateKeyObject, SigningID()))
	agrees("destroy")
	require.NoError(t, c.SetPIN([]byte("9999")))
	agrees("passcode")
	require.NoError(t, c.Provision(Pair{ID: []byte{7}, Key: ecKey()}))
	agrees("provision")
	c.Remove()
	agrees("removal")
	c.Insert()
	agrees("insertion")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 1, "no temporary file is left")

	require.NoError(t, c.SaveTo(""))
	c.Remove()
	onDisk, err := Load(path)
	require.NoError(t, err)
	assert.True(t, onDisk.Token().Presence().Present, "saving has ended")
}

func TestSaveIsDoneBeforeTheChangeIsAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "card.json")
	c := withKey(t, Config{})
	require.NoError(t, c.SaveTo(path))
	s := login(t, c)
	var onDisk *Card
	c.Hook(On(OpSign, true, 1, func() (err error) {
		onDisk, err = Load(path) // as a process killed right here would leave it
		return err
	}))
	require.NoError(t, trySign(s))
	assert.Equal(t, 1, onDisk.Signatures(SigningID()))
}

func TestSaveThatFailsIsTheAnswer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	c := withKey(t, Config{})
	require.NoError(t, c.SaveTo(filepath.Join(dir, "card.json")))
	s := login(t, c)
	require.NoError(t, os.RemoveAll(dir))
	err := trySign(s)
	assert.Equal(t, card.Fault, kindOf(t, err))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorIs(t, c.SaveError(), os.ErrNotExist)

	require.NoError(t, os.Mkdir(dir, 0o700))
	c.Remove()
	c.Insert()
	require.NoError(t, trySign(login(t, c)), "works again with the folder")

	assert.ErrorIs(t, c.Save(filepath.Join(dir, "no", "folder")), os.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	assert.Error(t, c.Save(filepath.Join(dir, "folder")))
}

func TestLoadRefuses(t *testing.T) {
	good := state(t, full(t))
	dir := t.TempDir()
	swap := func(old, new string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, new, 1)
	}
	for name, text := range map[string]string{
		"an empty file":             "",
		"not JSON":                  "card",
		"another JSON":              "{}",
		"an unknown field":          swap(`"version"`, `"colour": 1, "version"`),
		"a later version":           swap(`"version": 1`, `"version": 2`),
		"another notice":            swap("simulated card. Its", "real card. Its"),
		"text after it":             good + "{}",
		"tries above the limit":     swap(`"tries_left": 5`, `"tries_left": 6`),
		"insertion zero":            swap(`"insertion": 1`, `"insertion": 0`),
		"passcode too short":        swap(`"PIN": "MjQ2OA=="`, `"PIN": "MQ=="`),
		"a key that is none":        swap(`"private_key": "M`, `"private_key": "A`),
		"a public key that is none": swap(`"public_key": "M`, `"public_key": "A`),
		"a key without end":         swap(`"private_key": "M`, `"private_key": "`+strings.Repeat("AAAA", maxKey)+"M"),
		"two of one CKA_ID":         swap(`"id": "Ag=="`, `"id": "AQ=="`),
		"a negative count":          swap(`"signatures": 0`, `"signatures": -1`),
		"too few containers":        swap(`"Containers": 6`, `"Containers": 2`),
		"too long":                  good + strings.Repeat(" ", maxFile),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "card.json")
			write(t, dir, "card.json", []byte(text))
			_, err := Load(path)
			assert.ErrorContains(t, err, "testcard: load")
			assert.ErrorContains(t, err, path)
		})
	}
	_, err := Load(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// FuzzLoad: what loads is saved and loaded again as the same card.
func FuzzLoad(f *testing.F) {
	c := newCard(f, Config{}) // an EC key, which is quick to read
	require.NoError(f, c.Provision(Pair{ID: []byte{1}, Key: ecKey(), Certificate: []byte("one")}))
	f.Add([]byte(state(f, c)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(b)
		if err != nil {
			return
		}
		first := state(t, c)
		again, err := decode([]byte(first))
		require.NoError(t, err)
		require.Equal(t, first, state(t, again))
	})
}
