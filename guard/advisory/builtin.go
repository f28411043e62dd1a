package advisory

import (
	_ "embed"
	"fmt"
	"sync"
	"time"
)

//go:embed notice-2020.json
var notice2020 []byte

var builtin = sync.OnceValue(func() *Set {
	a, err := Parse(notice2020, nil)
	if err != nil {
		panic(fmt.Sprintf("the built-in notice is broken: %v", err))
	}
	s, err := NewSet(1, time.Date(2020, time.October, 1, 13, 50, 0, 0, time.UTC), a)
	if err != nil {
		panic(fmt.Sprintf("the built-in set is broken: %v", err))
	}
	return s
})

// Builtin returns the set that comes with the library, version 1: the national
// notice of autumn 2020, in state resolved. Its window of issue is assumed, and
// its basis note says so. Every call returns the same set.
func Builtin() *Set { return builtin() }
