//go:build failpoints

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Built tells that a process can die at the points.
const Built = true

var (
	wanted = sync.OnceValues(func() (string, int64) {
		name, count, _ := strings.Cut(os.Getenv("TIDEMARK_FAILPOINT"), ":")
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 1 {
			n = 1
		}
		return name, n
	})
	met atomic.Int64
)

// Here is a point: the process dies at it when that was asked for.
func Here(name string) {
	if at, n := wanted(); name != at || met.Add(1) != n {
		return
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {} // it does not come back from the call
}
