package crashdisk_test

import (
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/disk/disktest"
)

func TestContract(t *testing.T) {
	disktest.Run(t, func(t *testing.T) (disk.FS, string) {
		t.Helper()
		fsys := crashdisk.New()
		if err := fsys.MkdirAll("/data/empty"); err != nil {
			t.Fatal(err)
		}
		return fsys, "/data/empty"
	})
}
