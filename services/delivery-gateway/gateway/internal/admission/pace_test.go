package admission

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestPaceGivesWayToLiveTails(t *testing.T) {
	now := time.Unix(1000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	// at runs a pace for ten seconds in which so many of a thousand timers are late, and gives its mean.
	at := func(p *pace, lateOfThousand int, live bool) float64 {
		sum, tails := 0.0, p.tails
		for range 5000 {
			now = now.Add(probeAfter)
			if live {
				tails++
			}
			lateness := late / 2
			if random.IntN(1000) < lateOfThousand {
				lateness = 10 * late
			}
			p.hear(lateness, tails, now)
			if p.now > p.full || p.now < p.full*lowest {
				t.Fatalf("the pace is %f of %f", p.now, p.full)
			}
			sum += p.now
		}
		return sum / 5000 / p.full
	}
	p := &pace{full: 1000, now: 1000}
	for _, x := range []struct {
		what           string
		lateOfThousand int
		live           bool
		least, most    float64
	}{
		{"nobody is live", 500, false, 0.99, 1},
		{"nobody waits", 0, true, 0.95, 1},
		{"hardly anybody waits", 3, true, 0.8, 1},
		{"one in fifty waits", 20, true, 0.25, 0.75},
		{"all wait", 900, true, 0.1, 0.2},
		{"it has passed", 0, true, 0.8, 1},
		{"all wait, and leave", 900, false, 0.75, 1},
	} {
		if got := at(p, x.lateOfThousand, x.live); got < x.least || got > x.most {
			t.Errorf("%s: %.2f of the rate, not within [%.2f, %.2f]", x.what, got, x.least, x.most)
		}
	}
}
