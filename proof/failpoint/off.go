//go:build !failpoints

package failpoint

// Built tells that a process can die at the points.
const Built = false

// Here is a point: nothing.
func Here(string) {}
