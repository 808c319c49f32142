package sequencer

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	commonsnapshot "github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/snapshot"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// pinned is a lane's pinned state as the archive takes it.
type pinned struct {
	*snapshot.Snapshot
	lane *ledger.Lane
}

func newPinned(e *engine.Engine, l *ledger.Lane) (*pinned, error) {
	s, err := snapshot.Take(e, l)
	if err != nil {
		return nil, err
	}
	return &pinned{s, l}, nil
}

// Manifest implements archive.Source.
func (p *pinned) Manifest() commonsnapshot.Manifest {
	at := p.Mark()
	return commonsnapshot.Manifest{
		Stream: p.lane.Stream, Lane: p.lane.ID, Seed: p.lane.Seed, At: lane.Position{Epoch: p.lane.Epoch, Sequence: at.Sequence}, Set: at.Set, Floor: at.Floor,
	}
}

// Tombstones implements archive.Source.
func (p *pinned) Tombstones(visit func(state.Tombstone) error) error {
	return p.Snapshot.Tombstones(p.Mark().Floor, func(t *staterow.Tombstone) error {
		return visit(state.Tombstone{Key: t.Key, Sequence: t.Sequence})
	})
}
