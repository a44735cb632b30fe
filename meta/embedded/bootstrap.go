package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/tidemark-io/tidemark/disk"
)

// The first start of a member. If the process dies before etcd has stored that the member belongs to its cluster, no later
// start ever elects it, and the directory would be of no use. So a file stands in the directory from before the first start
// until the member was ready. As long as it does nobody was given the store, there is nothing in it, and it is made anew.
const (
	bootstrapFile = "BOOTSTRAP"
	memberDir     = "member" // where etcd keeps everything
)

// prepare removes what an unfinished first start has left, and reports whether this is a first start.
func prepare(fsys disk.FS, dir string) (first bool, err error) {
	member, err := exists(fsys, path.Join(dir, memberDir))
	if err != nil {
		return false, err
	}
	unfinished, err := exists(fsys, path.Join(dir, bootstrapFile))
	if err != nil {
		return false, err
	}
	if member && !unfinished {
		return false, nil
	}
	if member {
		if err := removeAll(fsys, path.Join(dir, memberDir)); err != nil {
			return false, err
		}
	}
	if !unfinished {
		file, err := fsys.Create(path.Join(dir, bootstrapFile))
		if err != nil {
			return false, fmt.Errorf("note the first start: %w", err)
		}
		if err := file.Close(); err != nil {
			return false, fmt.Errorf("note the first start: %w", err)
		}
	}
	return true, syncDir(fsys, dir)
}

// finish notes that the member was ready.
func finish(fsys disk.FS, dir string) error {
	if err := fsys.Remove(path.Join(dir, bootstrapFile)); err != nil {
		return fmt.Errorf("note the end of the first start: %w", err)
	}
	return syncDir(fsys, dir)
}

func exists(fsys disk.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return true, nil
}

func syncDir(fsys disk.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// removeAll removes a directory and what is in it.
func removeAll(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if e.Dir {
			err = removeAll(fsys, name)
		} else if err = fsys.Remove(name); err != nil {
			err = fmt.Errorf("remove %s: %w", name, err)
		}
		if err != nil {
			return err
		}
	}
	if err := fsys.Remove(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
