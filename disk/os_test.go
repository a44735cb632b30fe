package disk_test

import (
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/disktest"
)

func TestOS(t *testing.T) {
	disktest.Run(t, func(t *testing.T) (disk.FS, string) {
		t.Helper()
		return disk.OS(), t.TempDir()
	})
}
