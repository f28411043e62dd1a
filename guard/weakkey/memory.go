package weakkey

import (
	"encoding/binary"
	"sync/atomic"
)

// Remembered is how many verdicts a Checker remembers: at most 2 MB, 32 kB while it
// knows none. Beyond it, or rarely before, a new verdict takes the place of another,
// which costs no more than judging that key again.
const Remembered = memorySets * memoryWays

const (
	memorySets = 1024
	memoryWays = 4
)

// memory is a set-associative cache: the hash of a key names the set of four places in
// which its verdict may stand. Places are read and written atomically, each on its own,
// so nobody waits; two writers at once lose one verdict at most.
type memory [memorySets][memoryWays]atomic.Pointer[entry]

// entry is immutable.
type entry struct {
	spki   [32]byte
	result Result
}

func (m *memory) find(spki *[32]byte) *entry {
	set := m.set(spki)
	for i := range set {
		if e := set[i].Load(); e != nil && e.spki == *spki {
			return e
		}
	}
	return nil
}

// remember puts e where its key stands already, else in an empty place, else in one
// that the hash chooses.
func (m *memory) remember(e *entry) {
	set := m.set(&e.spki)
	place := &set[e.spki[31]%memoryWays]
	for i := len(set) - 1; i >= 0; i-- {
		old := set[i].Load()
		if old == nil {
			place = &set[i]
		} else if old.spki == e.spki {
			return
		}
	}
	place.Store(e)
}

func (m *memory) set(spki *[32]byte) *[memoryWays]atomic.Pointer[entry] {
	return &m[binary.LittleEndian.Uint16(spki[:])%memorySets]
}
