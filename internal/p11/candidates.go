package p11

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// Candidates lists the PKCS#11 modules that are on this machine at places where
// card makers' software is known to put them, each file once, in a fixed order. It
// loads none of them: that a file is there says nothing of the card it is for.
func Candidates() []string { return files(places(runtime.GOOS, os.Getenv)) }

// files lists the regular files that the patterns match, by the first path that
// leads to each: distributions link one file into several folders.
func files(patterns []string) []string {
	var found, real []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, p := range paths {
			r, err := filepath.EvalSymlinks(p)
			if err != nil || slices.Contains(real, r) {
				continue
			}
			if i, err := os.Stat(r); err == nil && i.Mode().IsRegular() {
				found, real = append(found, p), append(real, r)
			}
		}
	}
	return found
}

// places are patterns of paths, as filepath.Match has them. The files are of Thales
// and Gemalto (gclib, eTPKCS11, IDPrimePKCS11), Oberthur (OcsCryptoki), OpenSC and
// Yubico (ykcs11).
func places(goos string, env func(string) string) []string {
	switch goos {
	case "windows":
		or := func(name, otherwise string) string {
			if v := env(name); v != "" {
				return v
			}
			return otherwise
		}
		system, programs := or("SystemRoot", `C:\Windows`)+`\System32\`, or("ProgramFiles", `C:\Program Files`)+`\`
		return []string{
			programs + `Thales\Classic Client\BIN\gclib.dll`,
			programs + `Gemalto\Classic Client\BIN\gclib.dll`,
			system + `gclib.dll`,
			programs + `SafeNet\Authentication\SAC\x64\IDPrimePKCS1164.dll`,
			programs + `Gemalto\IDGo 800 PKCS#11\IDPrimePKCS1164.dll`,
			system + `IDPrimePKCS1164.dll`,
			system + `eTPKCS11.dll`,
			system + `OcsCryptoki.dll`,
			programs + `OpenSC Project\OpenSC\pkcs11\opensc-pkcs11.dll`,
			programs + `Yubico\Yubico PIV Tool\bin\libykcs11.dll`,
		}
	case "darwin":
		return in([]string{
			"/usr/local/lib", "/opt/homebrew/lib", "/Library/OpenSC/lib",
			"/Library/Frameworks/eToken.framework/Versions/Current", "/Library/AWP/lib",
		}, "libIDPrimePKCS11.dylib", "libeTPkcs11.dylib", "libeToken.dylib", "libOcsCryptoki.dylib", "opensc-pkcs11.so", "libykcs11.dylib")
	}
	return in([]string{
		"/usr/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*/pkcs11", "/usr/lib64", "/usr/lib64/pkcs11",
		"/usr/lib", "/usr/lib/pkcs11", "/usr/local/lib", "/usr/local/AWP/lib",
	}, "libgclib.so", "libIDPrimePKCS11.so", "libeTPkcs11.so", "libeToken.so", "libOcsCryptoki.so", "opensc-pkcs11.so", "libykcs11.so")
}

// in is each name in each folder, name by name.
func in(folders []string, names ...string) []string {
	var all []string
	for _, n := range names {
		for _, f := range folders {
			all = append(all, f+"/"+n)
		}
	}
	return all
}
