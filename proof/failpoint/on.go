//go:build failpoints

package failpoint

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// Built tells that a process can die at the points.
const Built = true

// target is what the environment asks for.
type target struct {
	name  string
	nth   int64
	wait  time.Duration // from the point to the end
	armed string        // the file without which nothing counts; empty: everything does
}

var (
	wanted = sync.OnceValue(func() target {
		text := os.Getenv("TIDEMARK_FAILPOINT")
		w := target{name: text, nth: 1, armed: os.Getenv("TIDEMARK_FAILPOINT_ARMED")}
		parts := strings.SplitN(text, ":", 3)
		var failed error
		if len(parts) > 1 {
			w.name = parts[0]
			w.nth, failed = strconv.ParseInt(parts[1], 10, 64)
		}
		if len(parts) > 2 && failed == nil {
			w.wait, failed = time.ParseDuration(parts[2])
		}
		if failed != nil || text != "" && !slices.Contains(Points, w.name) {
			panic("TIDEMARK_FAILPOINT=" + text + ": it is the name of a point, name:n or name:n:30ms")
		}
		return w
	})
	met atomic.Int64
)

// Here is a point: the process dies at it when that was asked for.
func Here(name string) {
	w := wanted()
	if name != w.name || w.armed != "" && syscall.Access(w.armed, 0) != nil || met.Add(1) != w.nth {
		return
	}
	if w.wait > 0 {
		<-clock.System().NewTimer(w.wait).C()
	}
	line := Line(name, w.nth) + "\n"
	if _, err := syscall.Write(2, []byte(line)); err != nil {
		panic(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {} // it does not come back from the call
}
