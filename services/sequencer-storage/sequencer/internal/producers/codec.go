package producers

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Prefix is what all keys of a lane begin with.
func Prefix(l segment.LaneNumber) []byte { return binary.BigEndian.AppendUint32(nil, uint32(l)) }

func (x *Index) key(id string, epoch, last uint64) []byte {
	b := append(Prefix(x.lane), id...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return binary.BigEndian.AppendUint64(b, last)
}

func (c *chunk) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(c.base))
	for _, p := range c.pairs {
		b = binary.AppendUvarint(b, p.First)
		b = binary.AppendUvarint(b, p.Count)
	}
	return b
}

// Load takes one stored chunk in; keys must come in order. Fault: Corrupt.
func (x *Index) Load(key, value []byte) error {
	bad := fault.New(fault.Corrupt, "a producer chunk of lane number %d does not decode", x.lane)
	if len(key) < 4+1+16 || key[len(key)-17] != 0 {
		return bad
	}
	id := string(key[4 : len(key)-17])
	epoch := binary.BigEndian.Uint64(key[len(key)-16:])
	var c chunk
	base, n := binary.Uvarint(value)
	if n <= 0 {
		return bad
	}
	c.base, value = lane.Sequence(base), value[n:]
	for len(value) > 0 {
		first, n := binary.Uvarint(value)
		if n <= 0 {
			return bad
		}
		count, m := binary.Uvarint(value[n:])
		if m <= 0 || count == 0 {
			return bad
		}
		c.pairs, value = append(c.pairs, Pair{first, count}), value[n+m:]
	}
	if len(c.pairs) == 0 || c.last() != binary.BigEndian.Uint64(key[len(key)-8:]) {
		return bad
	}
	p := x.by[id]
	if p == nil || p.epoch < epoch {
		p = &producer{epoch: epoch}
		x.by[id] = p
	}
	p.chunks = append(p.chunks, c)
	return nil
}
