package archive

import (
	"errors"
	"io/fs"
	"os"
	"sort"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

// Read gives the bytes [offset, offset+length) of a snapshot's chunks, in pieces that are valid during the call, and leases it. Whole
// chunks are read and compared, whatever part of them was asked for (I3). Faults: SnapshotGone, InvalidArgument.
func (a *Archive) Read(id snapshot.ID, offset, length uint64, visit func([]byte) error) error {
	k, err := a.Kept(id)
	if err != nil {
		return err
	}
	if err := a.lease(k); err != nil {
		return err
	}
	end := offset + length
	if end < offset || end > k.Bytes() {
		return fault.New(fault.InvalidArgument, "snapshot %v has %d bytes, and [%d, %d) was asked for", id, k.Bytes(), offset, end)
	}
	f, err := os.Open(a.file(id, chunksSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return a.damaged(k, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	first := sort.Search(k.Chunks(), func(n int) bool { c := k.Chunk(n); return c.Offset+uint64(c.Bytes) > offset })
	var stored []byte
	for n := first; n < k.Chunks() && k.Chunk(n).Offset < end; n++ {
		c := k.Chunk(n)
		if cap(stored) < int(c.Bytes) {
			stored = make([]byte, snapshot.MaxChunkBytes)
		}
		stored = stored[:c.Bytes]
		if _, err := f.ReadAt(stored, int64(c.Offset)); err != nil || !c.Holds(stored) {
			return a.damaged(k, errors.Join(err, fault.New(fault.Corrupt, "chunk %d is not what the manifest names", n)))
		}
		from := max(offset, c.Offset) - c.Offset
		until := min(end, c.Offset+uint64(c.Bytes)) - c.Offset
		if err := visit(stored[from:until]); err != nil {
			return err
		}
	}
	return nil
}

// damaged drops a snapshot whose file cannot be believed; another can be made.
func (a *Archive) damaged(k *Kept, cause error) error {
	a.env.Log.Error("a kept snapshot is damaged; it was dropped, and the next one to ask gets another", "stream", k.Stream, "partition", k.Lane.Partition, "id", k.ID, "error", cause)
	if err := a.drop(k); err != nil {
		a.env.Log.Error("the damaged snapshot was not removed", "id", k.ID, "error", err)
	}
	return fault.New(fault.SnapshotGone, "snapshot %v was damaged on the provider's disk and dropped: begin with another: %w", k.ID, cause)
}
