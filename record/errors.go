package record

import (
	"errors"
	"fmt"
)

// What can be wrong with a batch; every error of this package but [io.ErrUnexpectedEOF] is one of these for errors.Is.
var (
	// ErrCorrupt: the bytes do not match their checksum, or end too early. Somebody changed them on the way.
	ErrCorrupt = errors.New("corrupt batch")
	// ErrInvalid: the bytes are as they were written, but no batch that may be in a log.
	ErrInvalid = errors.New("invalid batch")
	// ErrTooLarge: a limit is passed; the message names the limit and the size.
	ErrTooLarge = errors.New("batch too large")
	// ErrCodec: the batch is compressed with an unknown codec.
	ErrCodec = errors.New("unknown codec")
)

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

func tooLargef(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrTooLarge}, args...)...)
}
