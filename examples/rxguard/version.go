package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says which rxguard this is.
type build struct {
	Version int    `json:"version"` // of this JSON
	Rxguard string `json:"rxguard"` // a version of the module; (devel): built from a checkout
	Commit  string `json:"commit,omitempty"`
	Changed bool   `json:"changed,omitempty"` // the checkout held more than its commit
	Go      string `json:"go"`
}

func thisBuild() build {
	b := build{Version: lineVersion, Rxguard: "(unknown)", Go: "(unknown)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Rxguard, b.Go = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Changed = s.Value == "true"
		}
	}
	return b
}

func versionCommand(tell *teller) *cobra.Command {
	return &cobra.Command{
		Use:                   "version [--json]",
		DisableFlagsInUseLine: true,
		Short:                 "Tell which rxguard this is",
		Args:                  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if tell.json {
				line, err := json.Marshal(b)
				if err != nil {
					return err
				}
				tell.line(line)
				return nil
			}
			changed := ""
			if b.Changed {
				changed = ", changed since"
			}
			if b.Commit != "" {
				b.Commit = ", commit " + b.Commit
			}
			fmt.Fprintf(tell, "rxguard %s%s%s, %s\n", b.Rxguard, b.Commit, changed, b.Go)
			return nil
		},
	}
}
