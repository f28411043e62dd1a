package state

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

func TestTheFolderOfTheMachineIsForItsUsers(t *testing.T) {
	d, err := Machine()
	require.NoError(t, err)
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(data, "rxguard"), d.Path())

	path := filepath.Join(t.TempDir(), "state")
	for range 2 { // the second finds it
		require.NoError(t, makeForUsers(path))
	}
	sd, err := windows.SecurityDescriptorFromString(access)
	require.NoError(t, err)
	assert.Contains(t, sd.String(), ";0x1301bf;;;BU)", "users change what is in it")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	assert.Error(t, makeForUsers(file))
	assert.Error(t, makeForUsers(filepath.Join(file, "below")))
}
