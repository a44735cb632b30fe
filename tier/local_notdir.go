package tier

import (
	"errors"
	"syscall"
)

// isNotFolder says that a part of a path that should be a folder is a file.
func isNotFolder(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
