package producers_test

import (
	"bytes"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
)

// FuzzLoad: what loads can be asked without harm.
func FuzzLoad(f *testing.F) {
	kept := store{}
	x := producers.NewIndex(3)
	x.Record(7, []producers.Run{{Count: 3, Producer: "p", Epoch: 2, Pairs: []producers.Pair{{First: 1, Count: 2}, {First: 9, Count: 1}}}}, kept.sink())
	for k, v := range kept {
		f.Add([]byte(k), v)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		x := producers.NewIndex(3)
		if x.Load(key, value) != nil {
			return
		}
		x.Highest()
		id := string(bytes.TrimSuffix(key[4:len(key)-16], []byte{0}))
		run := producers.Run{Count: 1, Producer: id, Epoch: 1, Pairs: []producers.Pair{{First: 1, Count: 1}}}
		if x.Check([]producers.Run{run}) == nil {
			x.Record(lane.Sequence(1), []producers.Run{run}, store{}.sink())
		}
	})
}
