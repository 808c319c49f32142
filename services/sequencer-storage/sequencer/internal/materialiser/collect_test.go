package materialiser_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/materialiser"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/snapshot"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

func first(all []lane.Sequence) lane.Sequence {
	if len(all) == 0 {
		return 0
	}
	return all[0]
}

// What is let go: by age and by count whoever has not passed it, by cursors what all have passed; without a reason nothing, and what
// was put again in time has no tombstone.
func TestWhatIsLetGo(t *testing.T) {
	const day = 24 * time.Hour
	start := time.UnixMilli(0).Add(1000 * day)
	for name, c := range map[string]struct {
		max    uint64
		passed lane.Sequence
		days   int // after the first delete
		left   []lane.Sequence
		floor  lane.Sequence
	}{
		"nothing":         {days: 30, left: []lane.Sequence{11, 12, 13, 14, 15, 16, 17, 18, 19}},
		"age":             {days: 34, left: []lane.Sequence{15, 16, 17, 18, 19}, floor: 14},
		"age and cursors": {days: 34, passed: 17, left: []lane.Sequence{18, 19}, floor: 17},
		"count":           {days: 30, max: 2, left: []lane.Sequence{18, 19}, floor: 17},
		"all":             {days: 30, passed: 21, floor: 19},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plant{dir: t.TempDir(), logs: make([][][]byte, 1)}
			p.open(t, materialiser.Config{TombstoneMaxCount: c.max})
			defer func() { p.engine.Close() }()
			settle := func() {
				if err := p.m.Settle(t.Context(), p.lanes[0]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 20 { // ten keys are put, then deleted at 11..20, one a day; the last one is put again
				p.now = start.Add(time.Duration(i-10) * day)
				p.append(t, 0, []record.Record{{Key: fmt.Append(nil, i%10), TimeMS: 1, Tombstone: i >= 10}})
				settle()
			}
			p.append(t, 0, []record.Record{{Key: []byte("9"), TimeMS: 1, Value: []byte("again")}})
			settle()
			p.passed[0], p.now = c.passed, start.Add(time.Duration(c.days)*day)
			for range 2 { // it is idempotent
				if err := p.m.Collect(); err != nil {
					t.Fatal(err)
				}
				p.verify(t, 0)
				s, err := snapshot.Take(p.engine, p.lanes[0])
				if err != nil {
					t.Fatal(err)
				}
				var left []lane.Sequence
				err = s.Tombstones(s.Mark().Floor, func(x *staterow.Tombstone) error { left = append(left, x.Sequence); return nil })
				if err != nil || !slices.Equal(left, c.left) || s.Mark().Floor != c.floor {
					t.Errorf("left are %v above %d, %v; want %v above %d", left, s.Mark().Floor, err, c.left, c.floor)
				}
				s.Close()
				n, oldest := p.m.Tombstones()
				if want := p.now.Sub(start.Add(time.Duration(first(c.left)-11) * day)); n != int64(len(c.left)) || n > 0 && oldest != want {
					t.Errorf("it tells of %d tombstones, the oldest of %v, want %d and %v", n, oldest, len(c.left), want)
				}
			}
		})
	}
}
