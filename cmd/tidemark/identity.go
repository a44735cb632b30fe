package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/tidemark-io/tidemark/disk"
)

// Files of a data directory:
//
//	lock      held while a process uses the directory
//	holder    who that is, for people
//	cluster   id of the cluster whose data this is, 32 hexadecimal digits
//	node      name of the node
//	disk      random identity of this directory, 32 hexadecimal digits
//	wal/      the write-ahead log
//	etcd/     the embedded etcd (dev)
//	store/    the local object store (dev)
const (
	lockFile    = "lock"
	holderFile  = "holder"
	clusterFile = "cluster"
	nodeFile    = "node"
	diskFile    = "disk"
)

// maxIdentity bounds what is read of an identity file.
const maxIdentity = 1 << 10

// dataDir is a locked data directory.
type dataDir struct {
	fs   disk.FS
	dir  string
	lock io.Closer
}

// openDataDir makes the directory if need be and locks it for this process alone.
func openDataDir(fsys disk.FS, dir, holder string) (*dataDir, error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fail(exitFailed, "check the path and its permissions, or choose another with --data-dir", "make data directory %s: %w", dir, err)
	}
	lock, err := fsys.Lock(path.Join(dir, lockFile))
	d := &dataDir{fs: fsys, dir: dir, lock: lock}
	switch {
	case errors.Is(err, disk.ErrLocked):
		who, readErr := d.read(holderFile)
		if readErr != nil || who == "" {
			who = "another process"
		}
		return nil, fail(exitFailed, "stop it, or choose another directory with --data-dir", "data directory %s is in use by %s", dir, who)
	case err != nil:
		return nil, fail(exitFailed, "check the path and its permissions, or choose another with --data-dir", "lock data directory %s: %w", dir, err)
	}
	if err := d.write(holderFile, holder); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dataDir) path(names ...string) string {
	return path.Join(append([]string{d.dir}, names...)...)
}

// close gives the directory free.
func (d *dataDir) close() error { return d.lock.Close() }

// read returns a small file's text without space around it, "" when there is none.
func (d *dataDir) read(name string) (string, error) {
	f, err := d.fs.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", d.path(name), err)
	}
	size, err := f.Size()
	if err == nil && size > maxIdentity {
		err = fmt.Errorf("it has %d bytes", size)
	}
	text := make([]byte, min(size, maxIdentity))
	if err == nil {
		_, err = f.ReadAt(text, 0)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", d.path(name), err)
	}
	return strings.TrimSpace(string(text)), nil
}

// write replaces a small file, durably: a crash leaves the old text or the new one.
func (d *dataDir) write(name, text string) error {
	temporary := d.path(name + ".new")
	if err := d.fs.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", d.path(name), err)
	}
	f, err := d.fs.Create(temporary)
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path(name), err)
	}
	_, err = f.WriteAt([]byte(text+"\n"), 0)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = d.fs.Rename(temporary, d.path(name))
	}
	if err == nil {
		err = d.fs.SyncDir(d.dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path(name), err)
	}
	return nil
}

// remember returns what a file says; when it says nothing, first's text is written.
func (d *dataDir) remember(name string, first func() (string, error)) (string, error) {
	text, err := d.read(name)
	if err != nil || text != "" {
		return text, err
	}
	if text, err = first(); err != nil {
		return "", err
	}
	return text, d.write(name, text)
}

// identity is who a data directory makes of a process.
type identity struct{ node, disk, cluster string }

// identify reads who we are, and draws what is not there yet. wanted is the name that the user gave, or "".
func (d *dataDir) identify(wanted string, random io.Reader) (identity, error) {
	var id identity
	var err error
	if id.disk, err = d.remember(diskFile, func() (string, error) { return draw(random, 16) }); err != nil {
		return id, err
	}
	id.node, err = d.remember(nodeFile, func() (string, error) {
		if wanted != "" {
			return wanted, nil
		}
		tail, err := draw(random, 4)
		return "node-" + tail, err
	})
	if err != nil {
		return id, err
	}
	if wanted != "" && wanted != id.node {
		return id, fail(exitUsage, fmt.Sprintf("start it with --node-id %s, or give node %s a directory of its own", id.node, wanted),
			"data directory %s is of node %s, not %s", d.dir, id.node, wanted)
	}
	id.cluster, err = d.read(clusterFile)
	return id, err
}

func draw(random io.Reader, bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("draw an identity: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// systemRandom is the randomness of everything outside tests.
var systemRandom = rand.Reader
