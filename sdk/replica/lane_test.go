package replica

import (
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// setOf stands for the state at a sequence.
func setOf(s lane.Sequence) digest.Set {
	return digest.Set{Sum: digest.Sum{Hi: 1, Lo: uint64(s) * 7}, Count: uint64(s)}
}

func markAt(s lane.Sequence) mark {
	return mark{at: lane.Position{Epoch: 3, Sequence: s}, set: setOf(s)}
}

func newTestLane(at lane.Sequence) *laneState {
	return newLaneState(store.Lane{Cursor: lane.Position{Epoch: 3, Sequence: at}, Set: setOf(at)})
}

func TestMarksAreComparedWhereverTheyCome(t *testing.T) {
	l := newTestLane(10)
	if v := l.compare(markAt(10)); v != equal {
		t.Fatalf("at the cursor: %v", v)
	}
	for s := lane.Sequence(12); s <= 400; s += 2 { // more than may wait
		if v := l.compare(markAt(s)); v != unknown {
			t.Fatalf("ahead of the cursor: %v", v)
		}
	}
	verified := 0
	for s := lane.Sequence(12); s <= 400; s += 2 {
		if _, v := l.advance(s, 0, setOf(s)); v == equal {
			verified++
		} else if v == different {
			t.Fatalf("different at %d", s)
		}
	}
	if verified != awaitedMarks || l.verified.Sequence != 400 || len(l.ahead) != 0 {
		t.Fatalf("%d marks were compared, the last at %v, %d wait", verified, l.verified, len(l.ahead))
	}
	forged := markAt(398)
	forged.set.Sum.Lo++
	if v := l.compare(forged); v != different {
		t.Fatalf("a digest of the past that differs: %v", v)
	}
	other := markAt(400)
	other.at.Epoch = 2
	if v := l.compare(other); v != unknown {
		t.Fatalf("of another epoch: %v", v)
	}
}

func TestOldSetsAreForgottenWithinBounds(t *testing.T) {
	l := newTestLane(0)
	for s := lane.Sequence(1); s <= 10*rememberedSets; s++ {
		l.advance(s, 0, setOf(s))
	}
	if len(l.memos) > 2*rememberedSets {
		t.Fatalf("%d sets are remembered", len(l.memos))
	}
	if v := l.compare(markAt(9*rememberedSets + 1)); v != equal {
		t.Fatalf("within %d batches: %v", rememberedSets, v)
	}
	if v := l.compare(markAt(5)); v != unknown {
		t.Fatalf("long ago: %v", v)
	}
}

func TestWhatIsStagedDoesNotTouchWhatIsCommitted(t *testing.T) {
	l := newTestLane(1)
	l.compare(markAt(3))
	c := l.clone()
	c.advance(2, 0, setOf(2))
	c.compare(markAt(9))
	c.advance(3, 0, setOf(3))
	d := l.clone()
	d.advance(2, 0, digest.Set{})
	if len(l.memos) != 1 || len(l.ahead) != 1 || l.Cursor.Sequence != 1 || c.memos[1].set != setOf(2) || d.memos[1].set != (digest.Set{}) {
		t.Fatalf("committed %+v, staged %+v and %+v", l, c, d)
	}
}

func TestCorrectionMovesEverySetByTheSameDifference(t *testing.T) {
	l := newTestLane(5)
	l.advance(6, 0, setOf(6))
	rows := digest.Set{Sum: digest.Sum{Hi: 9, Lo: 3}, Count: 40}
	want := shifted(setOf(5), setOf(6), rows)
	l.correct(rows)
	if l.Set != rows || l.memos[1].set != rows || l.memos[0].set != want {
		t.Fatalf("got %+v", l)
	}
}
