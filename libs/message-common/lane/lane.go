package lane

import (
	"cmp"
	"fmt"

	"github.com/zeebo/xxh3"
)

// StreamName is the name a person gave a stream; CheckName says which are allowed.
type StreamName string

// StreamID is never reused: a stream deleted and made again under one name has another.
type StreamID uint64

// Partition counts the lanes of a stream from 0.
type Partition uint32

// Sequence is a record's 1-based place in its lane.
type Sequence uint64

// Epoch counts the histories of a lane from 1.
type Epoch uint64

// ConsumerID is the name under which a consumer's cursor is kept; CheckName's rules hold for it too.
type ConsumerID string

// Incarnation counts the lives of one consumer from 1; the newest fences the others.
type Incarnation uint64

// ID identifies a lane for ever.
type ID struct {
	Stream    StreamID
	Partition Partition
}

// String gives "stream id/partition".
func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Stream, id.Partition) }

// Compare orders lanes by stream, then partition.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Stream, other.Stream), cmp.Compare(id.Partition, other.Partition))
}

// Position is a place in a lane that may leave a process. The zero Position is "before the first record, whatever the history".
type Position struct {
	Epoch    Epoch
	Sequence Sequence
}

// String gives "epoch:sequence".
func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Epoch, p.Sequence) }

// Compare orders by epoch, then sequence.
func (p Position) Compare(other Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, other.Epoch), cmp.Compare(p.Sequence, other.Sequence))
}

// Of gives the partition of a key in a stream of the given number of partitions (I1). Zero partitions count as one.
func Of(key []byte, partitions uint32) Partition {
	if partitions <= 1 {
		return 0
	}
	return Partition(xxh3.Hash(key) % uint64(partitions))
}
