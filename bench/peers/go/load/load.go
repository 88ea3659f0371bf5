// Package load is what the clients of the comparison have in common: closed and open loops over connections of any
// protocol, and an account of them.
package load

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// drainTime is how long the answers that are owed at the end are waited for.
const drainTime = 5 * time.Second

// Options are the arguments that every client takes.
type Options struct {
	Call        string
	Connections int
	Depth       int
	Seconds     float64
	Warmup      float64
	Rate        float64
	Watch       int
}

// Reply is an answer, right or wrong.
type Reply struct {
	// Due is when its call was to be made.
	Due   time.Time
	Wrong error
}

// Link is one connection of some protocol. Send and Flush are called by one goroutine at a time, Receive by one alone.
type Link interface {
	// Send makes a call, at the latest with the next Flush.
	Send(due time.Time) error
	Flush() error
	// Receive waits for a reply and appends it with all others that are there. An error ends the connection.
	Receive(replies []Reply) ([]Reply, error)
}

// Parse reads what stands behind the address.
func Parse(arguments []string) (*Options, error) {
	var options Options
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.StringVar(&options.Call, "call", "add", "what to call")
	flags.IntVar(&options.Connections, "connections", 1, "connections")
	flags.IntVar(&options.Depth, "depth", 1, "calls in flight on each, at most")
	flags.Float64Var(&options.Seconds, "seconds", 3, "length of the measured window")
	flags.Float64Var(&options.Warmup, "warmup", 0.5, "length of the run-up before it")
	flags.Float64Var(&options.Rate, "rate", 0, "calls per second in all; 0: a closed loop")
	flags.IntVar(&options.Watch, "watch", 0, "a process of which the CPU time is read")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if options.Connections < 1 || options.Depth < 1 || options.Rate < 0 || flags.NArg() > 0 {
		return nil, errors.New("connections and depth are at least 1, the rate is not negative, and there is no more")
	}
	return &options, nil
}

// Main makes the calls, prints the outcome and ends the process.
func Main(options *Options, dial func() (Link, error)) {
	outcome, err := run(options, dial)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
	line, err := json.Marshal(outcome)
	if err != nil {
		panic(err) // plain numbers and text
	}
	fmt.Println(string(line))
	if outcome.Errors > 0 {
		os.Exit(1)
	}
}

// connection is a link with its calls in flight.
type connection struct {
	link  Link
	run   *running
	depth int
	// drained is closed when no answer is owed and no call will be made, or the link is lost.
	drained chan struct{}

	mu       sync.Mutex
	inFlight int
	isOver   bool
	// waiting are the calls of an open loop that are due and found the connection full.
	waiting []time.Time
}

// running is what all connections share.
type running struct {
	isOpenLoop bool
	wantsCalls atomic.Bool
	tally      tally
	// open counts the links that are not lost; allLost is closed with the last of them.
	open    atomic.Int64
	allLost chan struct{}
}

func run(options *Options, dial func() (Link, error)) (Outcome, error) {
	shared := &running{isOpenLoop: options.Rate > 0, allLost: make(chan struct{})}
	shared.tally.isOpenLoop = shared.isOpenLoop
	shared.wantsCalls.Store(true)
	shared.open.Store(int64(options.Connections))
	connections := make([]*connection, options.Connections)
	for at := range connections {
		link, err := dial()
		if err != nil {
			return Outcome{}, err
		}
		connections[at] = &connection{link: link, run: shared, depth: options.Depth, drained: make(chan struct{})}
	}
	for _, connection := range connections {
		go connection.receive()
	}
	if shared.isOpenLoop {
		pacer, err := newPacer(options.Rate)
		if err != nil {
			return Outcome{}, err
		}
		go shared.pace(pacer, connections)
	} else {
		for _, connection := range connections {
			connection.fill(0, time.Now())
		}
	}
	if err := shared.wait(options.Warmup); err != nil {
		return Outcome{}, err
	}
	opened, err := mark(options.Watch)
	if err != nil {
		return Outcome{}, err
	}
	shared.tally.setMeasured(true)
	if err := shared.wait(options.Seconds); err != nil {
		return Outcome{}, err
	}
	closed, err := mark(options.Watch)
	if err != nil {
		return Outcome{}, err
	}
	shared.tally.setMeasured(false)
	shared.drain(connections)
	return shared.tally.outcome(options, opened, closed), nil
}

// wait lets so much time pass, unless nobody is left to call.
func (r *running) wait(seconds float64) error {
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return nil
	case <-r.allLost:
		r.tally.mu.Lock()
		defer r.tally.mu.Unlock()
		return fmt.Errorf("every connection was lost: %s", *r.tally.firstError)
	}
}

// drain waits for the answers that are owed. What was due in an open loop before is still made, as far as there is time.
func (r *running) drain(connections []*connection) {
	r.wantsCalls.Store(false)
	late := time.After(drainTime)
	for _, connection := range connections {
		connection.mu.Lock()
		connection.endIfDrained()
		connection.mu.Unlock()
		select {
		case <-connection.drained:
		case <-late:
			late = time.After(0)
			connection.mu.Lock()
			// A closed loop has no more in flight than was asked for; an open one may have been too fast.
			if connection.inFlight > 0 && !r.isOpenLoop {
				r.tally.onLost(errors.New("calls without an answer"), connection.inFlight)
			}
			r.tally.onLeftOver(connection.inFlight, connection.waiting, time.Now())
			connection.waiting = nil
			connection.mu.Unlock()
		}
	}
}

// pace deals the calls of an open loop out to the connections, in turn.
func (r *running) pace(pacer *pacer, connections []*connection) {
	var late []time.Duration
	for turn := 0; r.wantsCalls.Load(); {
		count, err := pacer.wait()
		if err != nil {
			panic(err) // a timer has nothing to fail with
		}
		late = late[:0]
		for range count {
			due := pacer.take()
			late = append(late, time.Since(due))
			connections[turn].onDue(due)
			turn = (turn + 1) % len(connections)
		}
		r.tally.onDealt(late)
	}
}

func (c *connection) onDue(due time.Time) {
	c.mu.Lock()
	if c.run.wantsCalls.Load() {
		c.waiting = append(c.waiting, due)
	}
	c.mu.Unlock()
	c.fill(0, due)
}

// receive takes the replies of one connection until it ends.
func (c *connection) receive() {
	var replies []Reply
	for {
		var err error
		if replies, err = c.link.Receive(replies[:0]); err != nil {
			c.mu.Lock()
			c.lose(err)
			c.mu.Unlock()
			return
		}
		now := time.Now()
		c.run.tally.onReplies(replies, now)
		c.fill(len(replies), now)
	}
}

// fill makes new calls where so many were answered.
func (c *connection) fill(answered int, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight -= answered
	made := 0
	for !c.isOver && c.inFlight < c.depth && c.wantsCall() {
		due := now
		if c.run.isOpenLoop {
			due, c.waiting = c.waiting[0], c.waiting[1:]
		}
		if err := c.link.Send(due); err != nil {
			c.lose(err)
			return
		}
		c.inFlight++
		made++
	}
	if made > 0 {
		if err := c.link.Flush(); err != nil {
			c.lose(err)
		}
	}
	c.endIfDrained()
}

// wantsCall tells whether there is a call to be made: one that is due, or in a closed loop the next.
func (c *connection) wantsCall() bool {
	if c.run.isOpenLoop {
		return len(c.waiting) > 0
	}
	return c.run.wantsCalls.Load()
}

func (c *connection) endIfDrained() {
	if !c.isOver && c.inFlight == 0 && !c.run.wantsCalls.Load() && !c.wantsCall() {
		c.isOver = true
		close(c.drained)
	}
}

func (c *connection) lose(why error) {
	if c.isOver {
		return
	}
	c.isOver = true
	c.run.tally.onLost(why, c.inFlight)
	c.inFlight = 0
	close(c.drained)
	if c.run.open.Add(-1) == 0 {
		close(c.run.allLost)
	}
}
