package load

import (
	"math"
	"math/bits"
	"time"
)

// A doubling has that many steps: a quantile is under 0.8 % too high.
const (
	stepBits = 7
	steps    = 1 << stepBits
	buckets  = (64 - stepBits + 1) * steps
)

// histogram counts durations in log-linear buckets, as the bench's own does.
type histogram struct {
	counts [buckets]uint64
	count  uint64
	max    uint64
}

func (h *histogram) record(latency time.Duration) {
	// A clock that ran backwards would give a negative one.
	value := uint64(max(latency, 0))
	h.counts[bucketOf(value)]++
	h.count++
	h.max = max(h.max, value)
}

// quantileUs is the value, in microseconds, that the share q of all does not exceed.
func (h *histogram) quantileUs(q float64) float64 {
	rank := max(uint64(math.Ceil(q*float64(h.count))), 1)
	seen := uint64(0)
	for bucket, count := range h.counts {
		if seen += count; seen >= rank {
			return float64(min(upperEnd(bucket), h.max)) / 1e3
		}
	}
	return float64(h.max) / 1e3
}

// bucketOf: below two times steps a value is its own bucket, above it the bits behind the leading one count.
func bucketOf(value uint64) int {
	shift := max(bits.Len64(value)-stepBits-1, 0)
	return shift*steps + int(value>>shift)
}

func upperEnd(bucket int) uint64 {
	if bucket < 2*steps {
		return uint64(bucket)
	}
	shift := bucket/steps - 1
	top := uint64(bucket - shift*steps)
	return top<<shift + (1<<shift - 1)
}
