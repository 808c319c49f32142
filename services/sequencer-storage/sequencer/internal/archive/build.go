package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
)

// Source is the state of a lane, pinned at one sequence.
type Source interface {
	// Manifest says what the state is; its chunks are empty.
	Manifest() snapshot.Manifest
	// Rows visits all rows, rising by key. The slices are valid during the call.
	Rows(visit func(e digest.Element, key []byte, sequence lane.Sequence, row []byte) error) error
	// Tombstones visits the keys deleted behind the manifest's floor, rising by sequence.
	Tombstones(visit func(state.Tombstone) error) error
	Close()
}

// build is a snapshot in the making.
type build struct {
	rows, expected atomic.Uint64
	done           chan struct{} // closed when what follows is set
	kept           *Kept
	err            error
	took           time.Duration // without waiting for a place
}

// writeBytes is the buffer between the Writer and the file.
const writeBytes = 1 << 20

// looksEvery is how many rows pass between two looks at the context.
const looksEvery = 4096

// build makes the snapshot of l and keeps it.
func (a *Archive) build(ctx context.Context, l *ledger.Lane, b *build) (*Kept, error) {
	select {
	case a.building <- struct{}{}: // I1
		defer func() { <-a.building }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	defer func() { b.took = time.Since(began) }()
	if err := a.room(); err != nil {
		return nil, err
	}
	source, err := a.env.Pin(ctx, l)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	b.expected.Store(source.Manifest().Set.Count)
	name := filepath.Join(a.dir, fmt.Sprintf("%s%d", buildingPrefix, l.Number))
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("making a snapshot: %w", err)
	}
	m, err := fill(ctx, bufio.NewWriterSize(f, writeBytes), source, b)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(name))
	}
	return a.keep(l, m, name)
}

func fill(ctx context.Context, out *bufio.Writer, source Source, b *build) (*snapshot.Manifest, error) {
	w := snapshot.NewWriter(out, source.Manifest())
	err := source.Rows(func(e digest.Element, key []byte, sequence lane.Sequence, row []byte) error {
		if n := w.Rows(); n%looksEvery == 0 {
			b.rows.Store(n)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return w.Row(e, key, sequence, row)
	})
	if err != nil {
		return nil, err
	}
	if err := source.Tombstones(w.Tombstone); err != nil {
		return nil, err
	}
	m, err := w.Finish()
	if err != nil {
		return nil, err
	}
	return m, out.Flush()
}
