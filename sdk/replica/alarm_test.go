package replica

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// TestAMillionBatchesRaiseNoFalseAlarm runs a lane over a million batch ends. The provider's digests come late, early, again, out of turn or
// not at all; transactions are undone and done again, as after a failure. Not one digest may count as different, most must be compared, and
// a wrong one must be found at every place where a right one is.
func TestAMillionBatchesRaiseNoFalseAlarm(t *testing.T) {
	const batches, keys = 1_000_000, 4096
	random := rand.New(rand.NewPCG(11, 7))
	hasher := digest.NewHasher(99)
	rows := make([]digest.Element, keys) // what both sides hold: the latest of each key
	live := make([]bool, keys)
	var set digest.Set
	var last lane.Sequence
	// upcoming are batch ends the provider knows already; past are those it may still speak of.
	var upcoming, past []mark
	provide := func() {
		for range 1 + random.IntN(3) {
			last++
			n := random.IntN(keys)
			if live[n] {
				set.Remove(rows[n])
			}
			if live[n] = random.IntN(8) > 0; live[n] {
				key := binary.BigEndian.AppendUint32(nil, uint32(n))
				rows[n] = hasher.Row(key, uint64(last), int64(last), nil, key)
				set.Add(rows[n])
			}
		}
		upcoming = append(upcoming, mark{at: lane.Position{Epoch: 1, Sequence: last}, set: set})
	}
	l := newLaneState(store.Lane{Cursor: lane.Position{Epoch: 1}})
	count := map[verdict]int{}
	judge := func(n int, at lane.Sequence, v verdict) {
		if count[v]++; v == different {
			t.Fatalf("batch %d: the digest for sequence %d counts as different, and it is not", n, at)
		}
	}
	forged := 0
	for n := range batches {
		for len(upcoming) < 1+random.IntN(2*awaitedMarks) {
			provide()
		}
		work, end := l, upcoming[0]
		begins := random.IntN(64) == 0 // a transaction, which takes many batches while behind
		if begins {
			work = l.clone()
		}
		reached, v := work.advance(end.at.Sequence, 0, end.set)
		judge(n, reached.at.Sequence, v)
		if begins && random.IntN(4) == 0 { // undone, and done again
			work = l.clone()
			reached, v = work.advance(end.at.Sequence, 0, end.set)
			judge(n, reached.at.Sequence, v)
		}
		upcoming, past = upcoming[1:], append(past, end)
		if len(past) > 4*rememberedSets {
			past = append(past[:0:0], past[len(past)-2*rememberedSets:]...)
		}
		switch random.IntN(5) {
		case 0: // none
		case 1, 2: // with its batch, and sometimes again
			for range 1 + random.IntN(2) {
				judge(n, end.at.Sequence, work.compare(end))
			}
		case 3: // late, up to beyond what is remembered
			late := past[len(past)-1-random.IntN(len(past))]
			judge(n, late.at.Sequence, work.compare(late))
		case 4: // early, in and out of turn
			for range random.IntN(3) {
				if len(upcoming) > 0 {
					early := upcoming[random.IntN(len(upcoming))]
					judge(n, early.at.Sequence, work.compare(early))
				}
			}
		}
		if n%1000 == 0 {
			wrong := end
			wrong.set.Sum.Lo ^= 1 << random.IntN(64)
			if probe := work.clone(); probe.compare(wrong) == different {
				forged++
			}
		}
		l = work
	}
	if count[equal] < batches/2 || l.verified.Sequence < l.Cursor.Sequence-1000 || forged != batches/1000 {
		t.Fatalf("%d digests were equal, the last at %d of %d; %d of %d wrong ones were found", count[equal], l.verified.Sequence, l.Cursor.Sequence, forged, batches/1000)
	}
	t.Logf("%d batch ends, %d records: %d digests equal, %d not comparable, none different", batches, last, count[equal], count[unknown])
}
