package load

import (
	"errors"
	"os"
	"sync"
	"time"
)

// Outcome is the line of JSON, with the fields that the bench's `drive` prints.
type Outcome struct {
	Connections       int     `json:"connections"`
	Depth             int     `json:"depth"`
	Calls             uint64  `json:"calls"`
	Seconds           float64 `json:"seconds"`
	CallsPerS         float64 `json:"calls_per_s"`
	P50Us             float64 `json:"p50_us"`
	P99Us             float64 `json:"p99_us"`
	P999Us            float64 `json:"p999_us"`
	MaxUs             float64 `json:"max_us"`
	Errors            uint64  `json:"errors"`
	FirstError        *string `json:"first_error"`
	CallsInAll        uint64  `json:"calls_in_all"`
	ClientWaitedShare float64 `json:"client_waited_share"`
	ClientCPUNs       uint64  `json:"client_cpu_ns"`
	ServerCPUNs       *uint64 `json:"server_cpu_ns"`
	ServerSystemNs    *uint64 `json:"server_system_ns"`
	// LateP99Us and LeftOver are of open loops: how late calls were handed to their connections, which is the client's
	// own doing, and how many of those that were due had no answer at the end, or were never made.
	LateP99Us *float64 `json:"late_p99_us"`
	LeftOver  uint64   `json:"left_over"`
}

// tally is what was counted, for all connections.
type tally struct {
	mu         sync.Mutex
	isOpenLoop bool
	isMeasured bool
	// opened and closed are the ends of the measured window, once it has them.
	opened, closed time.Time
	// calls were answered within the window. In an open loop the latencies are of those that were due in it, whenever
	// they were answered: to leave out those that took too long would flatter whoever is slow.
	calls      uint64
	latencies  histogram
	late       histogram
	leftOver   uint64
	callsInAll uint64
	errors     uint64
	firstError *string
}

// marks are read at either end of the measured window.
type marks struct {
	at       time.Time
	own      uint64
	threads  map[string]thread
	server   *uint64
	systemNs *uint64
}

func mark(watch int) (marks, error) {
	var m marks
	var failed []error
	read := func(clock func(int) (uint64, error), pid int) *uint64 {
		ns, err := clock(pid)
		failed = append(failed, err)
		return &ns
	}
	m.threads = threads()
	m.own = *read(cpuNs, os.Getpid())
	if watch > 0 {
		m.systemNs = read(systemNs, watch)
		m.server = read(cpuNs, watch)
	}
	// Next to the server's clock, so that both span the same time.
	m.at = time.Now()
	return m, errors.Join(failed...)
}

func (t *tally) setMeasured(is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isMeasured = is
	if is {
		t.opened = time.Now()
	} else {
		t.closed = time.Now()
	}
}

// counts tells whether the latency of a call that was due then, or left then, is one of the window's.
func (t *tally) counts(due time.Time) bool {
	if !t.isOpenLoop {
		return t.isMeasured
	}
	return !t.opened.IsZero() && !due.Before(t.opened) && (t.closed.IsZero() || due.Before(t.closed))
}

// onDealt notes how late calls were handed to their connections.
func (t *tally) onDealt(late []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, duration := range late {
		if t.isMeasured {
			t.late.record(duration)
		}
	}
}

// onLeftOver notes what an open loop leaves over: calls without an answer, and calls that were due and never made. Those
// have waited so long at least.
func (t *tally) onLeftOver(inFlight int, due []time.Time, now time.Time) {
	if !t.isOpenLoop {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leftOver += uint64(inFlight + len(due))
	for _, due := range due {
		if t.counts(due) {
			t.latencies.record(now.Sub(due))
		}
	}
}

func (t *tally) onReplies(replies []Reply, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.callsInAll += uint64(len(replies))
	for _, reply := range replies {
		if t.isMeasured {
			t.calls++
		}
		if t.counts(reply.Due) {
			t.latencies.record(now.Sub(reply.Due))
		}
		if reply.Wrong != nil {
			t.lost(reply.Wrong, 1)
		}
	}
}

func (t *tally) onLost(why error, calls int) {
	t.mu.Lock()
	t.lost(why, uint64(max(calls, 1)))
	t.mu.Unlock()
}

func (t *tally) lost(why error, calls uint64) {
	t.errors += calls
	if t.firstError == nil {
		text := why.Error()
		t.firstError = &text
	}
}

func (t *tally) outcome(options *Options, opened, closed marks) Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	length := max(closed.at.Sub(opened.at), 1)
	between := func(closed, opened *uint64) *uint64 {
		if closed == nil || opened == nil {
			return nil
		}
		difference := *closed - *opened
		return &difference
	}
	var late *float64
	if t.isOpenLoop {
		us := t.late.quantileUs(0.99)
		late = &us
	}
	return Outcome{
		Connections:       options.Connections,
		Depth:             options.Depth,
		Calls:             t.calls,
		Seconds:           length.Seconds(),
		CallsPerS:         float64(t.calls) / length.Seconds(),
		P50Us:             t.latencies.quantileUs(0.5),
		P99Us:             t.latencies.quantileUs(0.99),
		P999Us:            t.latencies.quantileUs(0.999),
		MaxUs:             float64(t.latencies.max) / 1e3,
		Errors:            t.errors,
		FirstError:        t.firstError,
		CallsInAll:        t.callsInAll,
		ClientWaitedShare: float64(waitedNs(opened.threads, closed.threads)) / float64(length),
		ClientCPUNs:       closed.own - opened.own,
		ServerCPUNs:       between(closed.server, opened.server),
		ServerSystemNs:    between(closed.systemNs, opened.systemNs),
		LateP99Us:         late,
		LeftOver:          t.leftOver,
	}
}
