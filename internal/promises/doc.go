// Package promises has no code: its tests keep what no single package can keep by
// itself, the promises that live in the structure of the module.
//
// They walk the exported API and every type that can be reached from it for a way
// to a card's key; build small modules outside this one that try to get round the
// guard; hold the imports to the design's arrows; and ask each public package for
// doc comments, a runnable example, and a build without cgo on each platform.
//
// Each check is a function that returns what it found, and each is tested twice:
// on the tree as it is, where it must find nothing, and on the tree with a
// violation planted in memory, which it must find.
package promises
