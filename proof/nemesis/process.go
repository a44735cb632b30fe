package nemesis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// spawner starts processes from one thread that lives as long as it does: on Linux a child is told of the death of the thread
// that made it, not of the process (PR_SET_PDEATHSIG), and Go ends threads as it likes.
type spawner struct {
	requests chan func()
	ended    chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and with it what was forgotten
		for f := range s.requests {
			f()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) (err error) {
	done := make(chan struct{})
	s.requests <- func() { defer close(done); err = cmd.Start() }
	<-done
	return err
}

func (s *spawner) close() { close(s.requests); <-s.ended }

// process is one server that can be ended and started again with the same arguments. Its methods may be called from any goroutine.
type process struct {
	name    string
	path    string
	args    []string
	env     []string // beside what this process has
	logName string   // everything that it prints in all its lives
	spawner *spawner
	died    func(p *process, how string) // hears of an end that nobody asked for

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil before the first start
	ended  chan struct{} // closed when cmd has been awaited
	paused bool
	ending bool // somebody asked for the end of this life
}

// start begins a new life. It is an error while one goes on.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive() {
		return fmt.Errorf("start %s: it runs already", p.name)
	}
	log, err := os.OpenFile(p.logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: open its log: %w", p.name, err)
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(cmd.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = ownGroup()
	if err := p.spawner.start(cmd); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.name, err), log.Close())
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.paused, p.ending = cmd, ended, false, false
	go func() {
		_ = cmd.Wait() // ProcessState has it too
		_ = log.Close()
		close(ended) // before the lock: who ends the process holds it and waits
		p.mu.Lock()
		asked := p.cmd != cmd || p.ending
		p.mu.Unlock()
		if !asked {
			p.died(p, cmd.ProcessState.String())
		}
	}()
	return nil
}

// alive is for holders of mu.
func (p *process) alive() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive()
}

// kill ends the process as a crash would, and waits until it is gone. One that is gone already is fine.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive() {
		return
	}
	p.ending = true
	killGroup(p.cmd.Process)
	<-p.ended
}

// stop asks the process to end and waits for it, for at most patience: then it is killed, and that is an error.
func (p *process) stop(ctx context.Context, patience time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive() {
		return nil
	}
	p.ending = true
	if err := terminate(p.cmd.Process); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	timer := clock.System().NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C():
		killGroup(p.cmd.Process)
		<-p.ended
		return fmt.Errorf("stop %s: it did not end within %v of SIGTERM and was killed", p.name, patience)
	case <-ctx.Done():
		killGroup(p.cmd.Process)
		<-p.ended
		return fmt.Errorf("stop %s: %w; it was killed", p.name, context.Cause(ctx))
	}
}

// pause takes all processor time from the process; resume gives it back.
func (p *process) pause() error { return p.setPaused(true) }

func (p *process) resume() error { return p.setPaused(false) }

func (p *process) setPaused(paused bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive() {
		if paused {
			return fmt.Errorf("pause %s: it does not run", p.name)
		}
		return nil
	}
	if err := pauseGroup(p.cmd.Process, paused); err != nil {
		return fmt.Errorf("pause or resume %s: %w", p.name, err)
	}
	p.paused = paused
	return nil
}

func (p *process) isPaused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive() && p.paused
}

// crashes are the lines of its log that no program may ever print.
func (p *process) crashes() []string {
	text, err := os.ReadFile(p.logName)
	if err != nil {
		return nil // it never started
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
			if strings.HasPrefix(line, sign) {
				out = append(out, p.name+": "+strings.TrimSpace(line))
			}
		}
	}
	return out
}

// tail is the end of its log, at most n bytes.
func (p *process) tail(n int) string {
	text, err := os.ReadFile(p.logName)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-n):])
}
