package lag

import (
	"slices"
	"sort"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// maxSamples of one lane: at one a second they are a second apart for the last minute and within a twentieth of their age beyond.
const maxSamples = 192

type sample struct {
	sequence lane.Sequence
	timeMs   int64
}

// samples rise in sequence and do not fall in time.
type samples []sample

// add appends one; sequence is above the last one's.
func (s samples) add(sequence lane.Sequence, timeMs, nowMs int64) samples {
	if len(s) > 0 {
		timeMs = max(timeMs, s[len(s)-1].timeMs) // clocks of providers may step back
	}
	if len(s) == maxSamples {
		s = s.thin(nowMs)
	}
	return append(s, sample{sequence, timeMs})
}

// thin takes out the sample that is missed least: the one whose neighbours are closest together for their age. The first and the
// last stay.
func (s samples) thin(nowMs int64) samples {
	least, at := 0.0, 1
	for i := 1; i < len(s)-1; i++ {
		gap := float64(s[i+1].timeMs-s[i-1].timeMs) / float64(max(nowMs-s[i].timeMs, 0)+1000)
		if i == 1 || gap < least {
			least, at = gap, i
		}
	}
	return slices.Delete(s, at, at+1)
}

// firstAfter gives the time of the earliest sample above sequence, which is no earlier than the time of the first record above it.
// passed says that a sample at or below sequence exists too. ok is false when there is no sample above.
func (s samples) firstAfter(sequence lane.Sequence) (timeMs int64, passed, ok bool) {
	i := sort.Search(len(s), func(i int) bool { return s[i].sequence > sequence })
	if i == len(s) {
		return 0, i > 0, false
	}
	return s[i].timeMs, i > 0, true
}
