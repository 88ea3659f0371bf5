package load

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// cpuNs is the CPU time of a process, all its threads, to the nanosecond.
func cpuNs(pid int) (uint64, error) {
	// As clock_getcpuclockid(3) makes it: the process's number, inverted, over the kind of clock.
	clock := uintptr(^pid)<<3 | 2
	var time syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&time)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, errno)
	}
	return uint64(time.Nano()), nil
}

// systemNs is the kernel's share of it, in steps of 10 ms.
func systemNs(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold spaces and parentheses itself.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("the state of process %d cannot be read", pid)
	}
	ticks, err := strconv.ParseUint(fields[12], 10, 64)
	return ticks * 10_000_000, err
}

// thread is what the kernel counts of one: how long it ran, and how long it was ready and had no core.
type thread struct {
	ran, waited uint64
}

// threads are those of this process, by number.
func threads() map[string]thread {
	all := map[string]thread{}
	paths, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, path := range paths {
		// A thread that ended meanwhile did no work worth knowing of.
		if text, err := os.ReadFile(path); err == nil {
			var one thread
			if n, _ := fmt.Sscan(string(text), &one.ran, &one.waited); n == 2 {
				all[path] = one
			}
		}
	}
	return all
}

// waitedNs is how long the busiest thread between the two had to wait. Go's threads also wait for each other on their one
// core: the sum of all would call that a disturbance.
func waitedNs(before, after map[string]thread) uint64 {
	var ran, waited uint64
	for path, now := range after {
		if was := before[path]; now.ran-was.ran >= ran {
			ran, waited = now.ran-was.ran, now.waited-was.waited
		}
	}
	return waited
}
