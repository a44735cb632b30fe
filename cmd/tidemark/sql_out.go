package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/tidemark-io/tidemark/client"
)

// outFile is a file that takes its name when all of it is written, so that nobody takes a part for the whole.
type outFile struct {
	*os.File
	name string // "" when it has it from the beginning: a device or a pipe
}

func newOutFile(name string, now time.Time) (*outFile, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, usagef("check the path behind --out", "write the result: %w", err)
		}
		return &outFile{File: f}, nil
	}
	temporary := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s.%d", filepath.Base(name), now.UnixNano()))
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // less what the user's mask takes away, as for any file that a command writes
	if err != nil {
		return nil, usagef("check the path behind --out", "write the result: %w", err)
	}
	return &outFile{File: f, name: name}, nil
}

// finish gives the file its name, or removes it when err says that it is not whole.
func (f *outFile) finish(err error) error {
	closeErr := f.Close()
	if f.name == "" {
		return errors.Join(err, closeErr)
	}
	if err == nil {
		if err = closeErr; err == nil {
			err = os.Rename(f.Name(), f.name)
		}
		if err == nil {
			return nil
		}
		err = fmt.Errorf("write the result to %s: %w", f.name, err)
	}
	if removeErr := os.Remove(f.Name()); removeErr != nil {
		return errors.Join(err, removeErr)
	}
	return err
}

// arrowResult is an Arrow IPC stream.
type arrowResult struct{ w *ipc.Writer }

func newArrowResult(out io.Writer, s *arrow.Schema) arrowResult {
	return arrowResult{ipc.NewWriter(out, ipc.WithSchema(s))}
}

func (r arrowResult) write(rec arrow.Record) error { return r.w.Write(rec) }

// end writes the schema, too, if there was no record.
func (r arrowResult) end(*client.Rows) error { return r.w.Close() }
