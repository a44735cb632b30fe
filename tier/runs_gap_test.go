package tier

import (
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// TestRunsReadLittleThatIsNotWanted: what is read of a fetch's 32 MiB, and held until it is answered, is not many times 32 MiB.
func TestRunsReadLittleThatIsNotWanted(t *testing.T) {
	var blocks []BlockRead
	wanted, read := int64(0), int64(0)
	for object := range 600 { // of 8 MiB: 512 partitions of 100 bytes that are wanted, between 512 of 16,000 that are not
		for n := range 512 {
			blocks = append(blocks, BlockRead{Object: fmt.Sprint(object), Entry: meta.L0Entry{Position: l0HeaderSize + int64(n)*16_100, Length: 100}})
			wanted += 100
		}
	}
	for _, r := range PlanRuns(blocks) {
		read += r.Size
	}
	if read > wanted+runBytes {
		t.Errorf("%d MiB are read and held for %d MiB", read>>20, wanted>>20)
	}
}
