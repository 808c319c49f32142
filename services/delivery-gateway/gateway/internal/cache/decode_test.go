package cache

import (
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

func FuzzDecode(f *testing.F) {
	k := Key{Lane: lane.ID{Stream: 7, Partition: 1}, Epoch: 2, From: 3}
	f.Add(encode(k, [][]byte{make([]byte, 100), make([]byte, 90)}), false)
	f.Add(encode(k, nil), true)
	f.Fuzz(func(t *testing.T, v []byte, seal bool) {
		if seal && len(v) >= headBytes { // get past the checksum, to the lengths
			sum := checksum(v)
			v[32], v[33], v[34], v[35] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		batches, ok := decode(k, v)
		if !ok {
			return
		}
		size := headBytes
		for _, b := range batches {
			size += 4 + len(b)
		}
		if size != len(v) {
			t.Fatalf("%d bytes decode to %d", len(v), size)
		}
	})
}
