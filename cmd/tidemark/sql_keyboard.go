package main

import (
	"context"
	"errors"
	"io"
	"sync"
)

// keyboard is what the user types at the prompt, on a terminal in raw mode: it finds Ctrl-C, which there is a byte as any other
// and comes also while nobody reads a line.
//
// A goroutine reads, a little ahead. It stays in its Read when the prompt is left; the process is about to exit.
type keyboard struct {
	ctx  context.Context
	wake chan struct{} // has room for one

	mu          sync.Mutex
	typed       []byte
	err         error
	interrupted bool   // Ctrl-C was typed at the prompt and not yet told
	interrupt   func() // what Ctrl-C does now; nil at the prompt
}

// maxTyped bounds what is typed ahead; more is dropped.
const maxTyped = maxStatement

const ctrlC = 3

var errInterrupt = errors.New("interrupted")

func newKeyboard(ctx context.Context, in io.Reader) *keyboard {
	k := &keyboard{ctx: ctx, wake: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := in.Read(buf)
			k.take(buf[:n], err)
			if err != nil {
				return
			}
		}
	}()
	return k
}

func (k *keyboard) take(b []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range b {
		switch {
		case c != ctrlC:
			if len(k.typed) < maxTyped {
				k.typed = append(k.typed, c)
			}
			continue
		case k.interrupt != nil:
			k.interrupt()
		default:
			k.interrupted = true
		}
		k.typed = k.typed[:0] // what was typed before Ctrl-C is meant no more
	}
	k.err = err
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Read waits for keys. After Ctrl-C it returns errInterrupt, with the keys that empty the line that was begun.
func (k *keyboard) Read(p []byte) (int, error) {
	for {
		n, err := k.read(p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-k.wake:
		case <-k.ctx.Done():
			return 0, context.Cause(k.ctx)
		}
	}
}

func (k *keyboard) read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.interrupted {
		k.interrupted = false
		const toEnd, kill = "\x05", "\x15"
		return copy(p, toEnd+kill), errInterrupt
	}
	if len(k.typed) == 0 {
		return 0, k.err
	}
	n := copy(p, k.typed)
	k.typed = k.typed[:copy(k.typed, k.typed[n:])]
	return n, nil
}

// during lets Ctrl-C call interrupt while run runs.
func (k *keyboard) during(interrupt func(), run func()) {
	set := func(f func()) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.interrupt = f
	}
	set(interrupt)
	defer set(nil)
	run()
}
