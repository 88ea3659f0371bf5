package load

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestBucketsRiseAndHoldTheirValuesClosely(t *testing.T) {
	last := 0
	for exponent := 0; exponent < 64; exponent++ {
		for _, part := range []uint64{0, 1, 3, 7} {
			value := uint64(1)<<exponent + part*(uint64(1)<<exponent/8)
			bucket := bucketOf(value)
			end := upperEnd(bucket)
			if bucket < last || bucket >= buckets || end < value || end-value > value/100 {
				t.Fatalf("%d in bucket %d up to %d", value, bucket, end)
			}
			last = bucket
		}
	}
	if upperEnd(bucketOf(math.MaxUint64)) != math.MaxUint64 {
		t.Fatal("the last bucket")
	}
}

func TestQuantilesOfARamp(t *testing.T) {
	var h histogram
	for us := 1; us <= 1000; us++ {
		h.record(time.Duration(us) * time.Microsecond)
	}
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 1: 1000} {
		if got := h.quantileUs(q); math.Abs(got/want-1) > 0.01 {
			t.Errorf("%v: %v for %v", q, got, want)
		}
	}
}

// looped answers each call at once, the third of them wrongly, and is lost where it is told to be.
type looped struct {
	pending chan time.Time
	sent    int
	lostAt  int
}

func (l *looped) Send(due time.Time) error {
	l.sent++
	l.pending <- due
	return nil
}

func (*looped) Flush() error { return nil }

func (l *looped) Receive(replies []Reply) ([]Reply, error) {
	reply := Reply{Due: <-l.pending}
	l.lostAt--
	if l.lostAt == 0 {
		return nil, errors.New("cut off")
	}
	if l.lostAt == -3 {
		reply.Wrong = errors.New("wrong")
	}
	return append(replies, reply), nil
}

func dialLooped(lostAt int) func() (Link, error) {
	return func() (Link, error) { return &looped{pending: make(chan time.Time, 64), lostAt: lostAt}, nil }
}

func TestLoopsCountCallsErrorsAndTime(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		options := Options{Connections: 2, Depth: 4, Seconds: 0.1, Warmup: 0, Rate: rate, Watch: 1}
		outcome, err := run(&options, dialLooped(0))
		if err != nil {
			t.Fatal(err)
		}
		if (outcome.LateP99Us != nil) != (rate > 0) || outcome.LeftOver != 0 {
			t.Errorf("rate %v: %+v", rate, outcome)
		}
		if outcome.Errors != 2 || *outcome.FirstError != "wrong" || outcome.ServerCPUNs == nil {
			t.Errorf("rate %v: %+v", rate, outcome)
		}
		// A machine that is busy makes fewer; never more than were due.
		if outcome.Calls == 0 || outcome.CallsInAll < outcome.Calls || rate > 0 && outcome.CallsPerS > 1.1*rate {
			t.Errorf("rate %v: %+v", rate, outcome)
		}
	}
}

// slow answers one call in each span of time.
type slow struct {
	pending chan time.Time
	ticks   <-chan time.Time
}

func (s *slow) Send(due time.Time) error {
	s.pending <- due
	return nil
}

func (*slow) Flush() error { return nil }

func (s *slow) Receive(replies []Reply) ([]Reply, error) {
	due := <-s.pending
	<-s.ticks
	return append(replies, Reply{Due: due}), nil
}

func TestWhatWasDueCountsWhetherItWasSentOrNot(t *testing.T) {
	// 800 calls are due in 0.2 s, and 100 are answered in a second: most are made in the drain or never.
	options := Options{Connections: 1, Depth: 1, Seconds: 0.2, Warmup: 0, Rate: 4000}
	outcome, err := run(&options, func() (Link, error) {
		return &slow{pending: make(chan time.Time, 1), ticks: time.Tick(10 * time.Millisecond)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if outcome.LeftOver == 0 || outcome.LateP99Us == nil || outcome.Errors != 0 {
		t.Errorf("%+v", outcome)
	}
	// Those that were never sent had waited for all of the drain; without them the slowest would be those answered.
	if outcome.Calls == 0 || outcome.P50Us < 1e6 || outcome.P99Us < float64(drainTime.Microseconds())*0.99 {
		t.Errorf("%+v", outcome)
	}
}

func TestRunWithoutConnectionsSaysWhy(t *testing.T) {
	_, err := run(&Options{Connections: 2, Depth: 1, Seconds: 60}, dialLooped(5))
	if err == nil || err.Error() != "every connection was lost: cut off" {
		t.Fatal(err)
	}
}
