package catalogue

import (
	"database/sql"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Snapshot is a snapshot that is kept as a file.
type Snapshot struct {
	ID            snapshot.ID
	Lane          segment.LaneNumber
	At            lane.Position
	Rows, Bytes   uint64
	MadeMS        int64
	LeasedUntilMS int64
}

// Snapshots gives all that are kept, oldest first.
func (c *Catalogue) Snapshots() ([]Snapshot, error) {
	rows, err := c.db.Query(`SELECT id, lane, epoch, sequence, row_count, bytes, made_ms, leased_until_ms FROM snapshots ORDER BY made_ms, sequence`)
	if err != nil {
		return nil, translate("reading snapshots", err)
	}
	defer rows.Close()
	var kept []Snapshot
	for rows.Next() {
		var s Snapshot
		var id []byte
		if err := rows.Scan(&id, &s.Lane, &s.At.Epoch, &s.At.Sequence, &s.Rows, &s.Bytes, &s.MadeMS, &s.LeasedUntilMS); err != nil {
			return nil, translate("reading snapshots", err)
		}
		var ok bool
		if s.ID, ok = snapshot.ParseID(id); !ok {
			return nil, fault.New(fault.Corrupt, "the catalogue names a snapshot by %d bytes", len(id))
		}
		kept = append(kept, s)
	}
	return kept, translate("reading snapshots", rows.Err())
}

// KeepSnapshot writes a snapshot down, or the new end of its lease.
func (c *Catalogue) KeepSnapshot(s Snapshot) error {
	return c.change("keeping a snapshot", func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET leased_until_ms = max(leased_until_ms, excluded.leased_until_ms)`,
			s.ID[:], s.Lane, int64(s.At.Epoch), int64(s.At.Sequence), int64(s.Rows), int64(s.Bytes), s.MadeMS, s.LeasedUntilMS)
		return err
	})
}

// DropSnapshot forgets one whose file is gone, or is about to go.
func (c *Catalogue) DropSnapshot(id snapshot.ID) error {
	return c.change("dropping a snapshot", func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM snapshots WHERE id = ?`, id[:])
		return err
	})
}
