package lane_test

import (
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

func TestCheckName(t *testing.T) {
	for _, good := range []string{"orders", "a", "7up", "Prices.eu-west_1", strings.Repeat("x", lane.MaxNameBytes)} {
		if err := lane.CheckName("stream", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".hidden", "-flag", "_x", "a b", "a/b", "é", "a\x00", "a\"b", strings.Repeat("x", lane.MaxNameBytes+1)} {
		if err := lane.CheckName("stream", bad); err == nil || !strings.Contains(err.Error(), "stream") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// I1: the placement of keys is a contract; a change would tear keys from their history.
func TestOfIsFixed(t *testing.T) {
	for _, partitions := range []uint32{0, 1} {
		if got := lane.Of([]byte("apple"), partitions); got != 0 {
			t.Errorf("of %d partitions: %d", partitions, got)
		}
	}
	got := []lane.Partition{lane.Of([]byte("apple"), 7), lane.Of([]byte("pear"), 7), lane.Of([]byte("0ad"), 1024), lane.Of(nil, 1024)}
	if want := []lane.Partition{4, 6, 214, 194}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("got %v, want %v", got, want)
	}
	counts := make([]int, 8)
	for i := range 8000 {
		counts[lane.Of([]byte{byte(i), byte(i >> 8)}, 8)]++
	}
	for p, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("partition %d has %d of 8000 keys", p, n)
		}
	}
}
