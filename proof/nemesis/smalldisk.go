package nemesis

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// smallDisk is a file system in memory of a fixed size, for the data of one node. Filling it is a file that takes all its room.
type smallDisk struct {
	node  int // index
	dir   string
	watch *exec.Cmd      // unmounts when this process is gone, however it went
	hold  io.WriteCloser // its standard input: it unmounts when that ends
}

// mountSmallDisk needs the right to mount. A shell waits to take the mount back, so that it does not outlive a test that is killed.
func mountSmallDisk(dir string, node int, size int64, s *spawner) (*smallDisk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a small disk: %w", err)
	}
	if text, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=700", size), "tidemark-nemesis", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a small disk: mount: %w: %s", err, text)
	}
	d := &smallDisk{node: node, dir: dir, watch: exec.Command("sh", "-c", `cat >/dev/null; umount -l "$0"`, dir)}
	d.watch.SysProcAttr = ownGroup()
	if d.watch.SysProcAttr != nil {
		d.watch.SysProcAttr = withoutDeath(d.watch.SysProcAttr) // it must outlive us by a moment
	}
	hold, err := d.watch.StdinPipe()
	if err == nil {
		d.hold = hold
		err = s.start(d.watch)
	}
	if err != nil {
		text, failed := exec.Command("umount", "-l", dir).CombinedOutput()
		return nil, errors.Join(fmt.Errorf("make a small disk: %w", err), failed, errors.New(string(text)))
	}
	return d, nil
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill takes all the room that is left.
func (d *smallDisk) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	zeros := make([]byte, 8<<20)
	// In ever smaller pieces, to the last byte: an error says that less than the piece was left.
	for piece := len(zeros); piece > 0; {
		if n, err := f.Write(zeros[:piece]); err != nil || n < piece {
			piece /= 2
		}
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	return nil
}

// free gives the room back.
func (d *smallDisk) free() error {
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free the disk: %w", err)
	}
	return nil
}

func (d *smallDisk) unmount() {
	_ = d.hold.Close()
	_ = d.watch.Wait()
}
