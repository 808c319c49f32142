package lag_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/lag"
)

var id = lane.ID{Stream: 1}

func at(sequence int) *lane.Position {
	return &lane.Position{Epoch: 1, Sequence: lane.Sequence(sequence)}
}

// One record a second for a day: a bounded number of samples answers for every age, never too high and within a tenth.
func TestFewSamplesAnswerForADay(t *testing.T) {
	const day = 24 * 3600
	b := lag.NewBook(1, time.Minute)
	for s := range day + 1 {
		b.Hear(id, *at(s), int64(s)*1000, int64(s)*1000)
	}
	for _, cursor := range []int{0, 10, 1000, 20_000, 80_000, 86_000, 86_300, 86_390, 86_398, 86_399} {
		truth := float64(day - cursor - 1)
		got := b.Of(id, at(cursor), day*1000)
		if !got.Known || got.AtLeast || got.Seconds > truth || got.Seconds < truth*0.9-1 || got.Records != uint64(day-cursor) {
			t.Errorf("at %d: %+v, in truth %v s", cursor, got, truth)
		}
	}
}

// Whatever the pace of records and of news, seconds never exaggerates, and is exact where there was news of each record (I2, I3).
func TestSecondsNeverExaggerates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := lag.NewBook(1, time.Hour)
		times := []int64{0} // of each record, by sequence
		nowMs, firstHeard := int64(0), -1
		everyHeard := true
		for range rapid.IntRange(1, 400).Draw(t, "rounds") {
			records := rapid.IntRange(0, 4).Draw(t, "records")
			for range records {
				nowMs += int64(rapid.IntRange(0, 5000).Draw(t, "pause"))
				times = append(times, nowMs)
			}
			everyHeard = everyHeard && records <= 1
			tail := len(times) - 1
			b.Hear(id, *at(tail), times[tail], nowMs)
			if firstHeard < 0 {
				firstHeard = tail
			}
		}
		nowMs += int64(rapid.IntRange(0, 5000).Draw(t, "since"))
		tail := len(times) - 1
		cursor := rapid.IntRange(0, tail).Draw(t, "cursor")
		got := b.Of(id, at(cursor), nowMs)
		if !got.Known || got.Records != uint64(tail-cursor) || got.AtLeast != (cursor < firstHeard && cursor < tail) {
			t.Fatalf("%+v: cursor %d, tail %d, first heard of %d", got, cursor, tail, firstHeard)
		}
		truth := 0.0
		if cursor < tail {
			truth = float64(nowMs-times[cursor+1]) / 1000
		}
		if got.Seconds > truth || got.Seconds < 0 {
			t.Fatalf("%v s, in truth %v s", got.Seconds, truth)
		}
		if everyHeard && tail < 190 && cursor >= firstHeard && got.Seconds != truth {
			t.Fatalf("%v s, in truth %v s, and each record was heard of", got.Seconds, truth)
		}
	})
}

// The rates are those of the last half hour and of the last minutes, whatever was before.
func TestPresentRatesCount(t *testing.T) {
	b := lag.NewBook(1, time.Minute)
	nowMs := int64(0)
	step := func(head, cursor int) {
		nowMs += 1000
		b.Hear(id, *at(1 << 30), nowMs, nowMs)
		b.Watch(id, *at(head), func() map[lane.ConsumerID]lane.Position {
			return map[lane.ConsumerID]lane.Position{"c": *at(cursor)}
		}, nowMs)
	}
	head, cursor := 1, 1_000_000
	for range 2 * 3600 { // for two hours the head moves by 100 a second and the cursor by 99
		head, cursor = head+100, cursor+99
		step(head, cursor)
	}
	near := func(what string, got lag.Expiry, want float64) {
		t.Helper()
		if !got.Will || got.Seconds < want*0.98 || got.Seconds > want*1.02 {
			t.Errorf("%s: %+v, want about %v s", what, got, want)
		}
	}
	near("steadily", b.ExpiryOf(id, "c", at(cursor), nowMs), float64(cursor-head))
	for range 180 { // the consumer stops
		head += 100
		step(head, cursor)
	}
	near("the consumer has stopped", b.ExpiryOf(id, "c", at(cursor), nowMs), float64(cursor-head)/100)
	for range 3601 { // and retention does
		step(head, cursor)
	}
	if got := b.ExpiryOf(id, "c", at(cursor), nowMs); got.Will || got.Head != lane.Sequence(head) {
		t.Errorf("nothing has expired for an hour: %+v", got)
	}
}

// A cursor that a command moved back is watched anew; one that is gone is forgotten, and so are those of a lane that made room.
func TestWatchedCursorsComeAndGo(t *testing.T) {
	b := lag.NewBook(1, time.Hour)
	see := func(nowMs int64, cursors map[lane.ConsumerID]lane.Position) {
		b.Hear(id, *at(1000), nowMs, nowMs)
		b.Watch(id, *at(int(nowMs / 1000)), func() map[lane.ConsumerID]lane.Position { return cursors }, nowMs)
	}
	will := func(consumer lane.ConsumerID, cursor int, nowMs int64) bool {
		return b.ExpiryOf(id, consumer, at(cursor), nowMs).Will
	}
	see(1000, map[lane.ConsumerID]lane.Position{"a": *at(500), "b": *at(500)})
	see(15_000, map[lane.ConsumerID]lane.Position{"a": *at(500), "b": *at(500)})
	if !will("a", 500, 15_000) || !will("b", 500, 15_000) || will("c", 500, 15_000) {
		t.Error("both are known, and no other")
	}
	see(20_000, map[lane.ConsumerID]lane.Position{"a": *at(100)})
	if will("a", 100, 20_000) || will("b", 500, 20_000) {
		t.Error("one moved back and one is gone: their rates are not known")
	}
	see(31_000, map[lane.ConsumerID]lane.Position{"a": *at(100)})
	if !will("a", 100, 31_000) {
		t.Error("watched again for a while")
	}
	b.Hear(lane.ID{Stream: 2}, *at(1), 0, 32_000)
	see(33_000, map[lane.ConsumerID]lane.Position{"a": *at(100)})
	if will("a", 100, 33_000) {
		t.Error("the lane made room and came back: nothing of it is known")
	}
}

// I4: the lane unheard of the longest makes room; its own news brings it back.
func TestLanesAreBounded(t *testing.T) {
	b := lag.NewBook(3, time.Hour)
	for i := range lane.StreamID(10) {
		b.Hear(lane.ID{Stream: i}, *at(5), 0, int64(i))
		b.Hear(lane.ID{Stream: 0}, *at(5), 0, int64(i)) // heard of all along
	}
	if b.Len() != 3 || !b.Of(lane.ID{Stream: 0}, at(5), 9).Known || !b.Of(lane.ID{Stream: 9}, at(5), 9).Known || b.Of(lane.ID{Stream: 4}, at(5), 9).Heard {
		t.Errorf("%d lanes", b.Len())
	}
	if got := b.Partitions(4); len(got) != 0 {
		t.Errorf("a lane that made room: %v", got)
	}
}
