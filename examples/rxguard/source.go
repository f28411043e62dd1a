package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// read reads a whole file, or standard input for "-", of at most limit bytes. wanted
// says what it should be. It returns early when ctx ends, also from a pipe into which
// nobody writes. Its errors do not name the file.
func read(ctx context.Context, name string, stdin io.Reader, limit int64, wanted string) ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		b, err := readNow(name, stdin, limit, wanted)
		done <- result{b, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.b, r.err
	}
}

func readNow(name string, stdin io.Reader, limit int64, wanted string) ([]byte, error) {
	var b bytes.Buffer
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, bare(err)
		}
		defer f.Close()
		about, err := f.Stat()
		switch {
		case err != nil:
			return nil, bare(err)
		case about.IsDir():
			return nil, fmt.Errorf("is a folder, wanted %s", wanted)
		case about.Mode().IsRegular() && about.Size() > limit:
			return nil, &sizeError{size: about.Size(), limit: limit}
		case about.Mode().IsRegular():
			b.Grow(int(about.Size()) + bytes.MinRead) // the end is seen without another allocation
		}
		stdin = f
	}
	n, err := b.ReadFrom(io.LimitReader(stdin, limit+1))
	switch {
	case err != nil:
		return nil, bare(err)
	case n > limit:
		return nil, &sizeError{limit: limit}
	case n == 0:
		return nil, fmt.Errorf("is empty, wanted %s", wanted)
	}
	return b.Bytes(), nil
}

// sizeError is an input that is too large to be read.
type sizeError struct {
	size  int64 // 0: not known
	limit int64
}

func (e *sizeError) Error() string {
	if e.size == 0 {
		return fmt.Sprintf("is larger than %d bytes", e.limit)
	}
	return fmt.Sprintf("is %d bytes large, wanted at most %d", e.size, e.limit)
}

// bare takes the name of the file out of an error of the file system.
func bare(err error) error {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// expand replaces patterns by the names that match them, as shells other than those
// of Windows do. What matches nothing stays as it is.
func expand(names []string) []string {
	var all []string
	for _, n := range names {
		_, err := os.Lstat(n)
		found, bad := filepath.Glob(n)
		if err == nil || bad != nil || len(found) == 0 {
			found = []string{n}
		}
		all = append(all, found...)
	}
	return all
}
