package main

import "time"

// progress shows line on standard error, over and over, until the returned function is called. It shows nothing in the
// first two seconds, and nothing at all when standard error is not a terminal.
func (a *app) progress(line func() string) (end func()) {
	if !a.stderrTTY {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		timer := a.clock.NewTimer(2 * time.Second)
		defer timer.Stop()
		shown := false
		for {
			select {
			case <-stop:
				if shown {
					a.tellf("\r\x1b[K")
				}
				return
			case <-timer.C():
				a.tellf("\r\x1b[K%s", line())
				shown = true
				timer.Reset(500 * time.Millisecond)
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}
