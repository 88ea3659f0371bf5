package load

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// pacer says when the calls of an open loop are due: one each interval. It is a timer of the kernel's, waited for as a
// socket is: Go's own timers wake an idle program only at whole milliseconds.
type pacer struct {
	file     *os.File
	interval time.Duration
	next     time.Time
}

const (
	clockMonotonic = 1
	timerFlags     = syscall.O_NONBLOCK | syscall.O_CLOEXEC
)

func newPacer(rate float64) (*pacer, error) {
	interval := max(time.Duration(float64(time.Second)/rate), 1)
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, timerFlags, 0)
	if errno != 0 {
		return nil, fmt.Errorf("no timer: %w", errno)
	}
	pacer := &pacer{os.NewFile(fd, "timer"), interval, time.Now().Add(interval)}
	each := syscall.NsecToTimespec(int64(interval))
	// The distance, and how long until the first.
	setting := [2]syscall.Timespec{each, each}
	_, _, errno = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&setting)), 0, 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("no timer: %w", errno)
	}
	return pacer, nil
}

// wait returns how many calls have become due, at least one; take gives their times.
func (p *pacer) wait() (uint64, error) {
	var expired [8]byte
	if _, err := p.file.Read(expired[:]); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(expired[:]), nil
}

func (p *pacer) take() time.Time {
	due := p.next
	p.next = due.Add(p.interval)
	return due
}
