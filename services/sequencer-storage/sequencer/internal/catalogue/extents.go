package catalogue

import (
	"database/sql"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Seal writes a segment's extents down, in the same transaction as the fact that it is sealed. Repeating it is harmless.
func (c *Catalogue) Seal(n segment.Number, extents map[segment.LaneNumber]segment.Extent, nowMS int64) error {
	return c.change("sealing a segment", func(tx *sql.Tx) error {
		for l, x := range extents {
			if _, err := tx.Exec(`INSERT OR REPLACE INTO extents VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				n, l, int64(x.First), int64(x.Last), int64(x.Bytes), x.FirstMS, x.LastMS, x.Chain[:]); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT OR REPLACE INTO segments VALUES (?, ?)`, n, nowMS)
		return err
	})
}

// Extents gives the extents of all sealed segments by lane, rising, and the highest sealed segment ever, 0 when there is none.
func (c *Catalogue) Extents() (map[segment.LaneNumber][]segment.Extent, segment.Number, error) {
	var newest segment.Number
	if err := c.db.QueryRow(`SELECT COALESCE(MAX(number), 0) FROM segments`).Scan(&newest); err != nil {
		return nil, 0, translate("reading segments", err)
	}
	rows, err := c.db.Query(`SELECT segment, lane, first, last, bytes, first_ms, last_ms, chain FROM extents ORDER BY lane, segment`)
	if err != nil {
		return nil, 0, translate("reading extents", err)
	}
	defer rows.Close()
	extents := map[segment.LaneNumber][]segment.Extent{}
	for rows.Next() {
		var l segment.LaneNumber
		var x segment.Extent
		var chain []byte
		if err := rows.Scan(&x.Segment, &l, &x.First, &x.Last, &x.Bytes, &x.FirstMS, &x.LastMS, &chain); err != nil {
			return nil, 0, translate("reading extents", err)
		}
		copy(x.Chain[:], chain)
		extents[l] = append(extents[l], x)
	}
	return extents, newest, translate("reading extents", rows.Err())
}

// AdvanceHead moves a lane's head forward; it never goes back.
func (c *Catalogue) AdvanceHead(l segment.LaneNumber, head lane.Sequence) error {
	return c.change("advancing a head", func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE lanes SET head = max(head, ?) WHERE number = ?`, int64(head), l)
		return err
	})
}

// RaiseFloor says that everything up to floor, whose chain value is chain, may be freed; it comes before freeing.
func (c *Catalogue) RaiseFloor(l segment.LaneNumber, floor lane.Sequence, chain batch.Chain) error {
	return c.change("raising a floor", func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE lanes SET floor = ?, floor_chain = ? WHERE number = ? AND floor < ?`, int64(floor), chain[:], l, int64(floor))
		return err
	})
}

// DropExtent forgets an extent whose bytes were freed.
func (c *Catalogue) DropExtent(n segment.Number, l segment.LaneNumber) error {
	return c.change("dropping an extent", func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM extents WHERE segment = ? AND lane = ?`, n, l)
		return err
	})
}

// DropEmptySegments forgets sealed segments without extents, but for the newest, which keeps numbers rising.
func (c *Catalogue) DropEmptySegments() error {
	return c.change("dropping segments", func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM segments WHERE number < (SELECT MAX(number) FROM segments) AND number NOT IN (SELECT segment FROM extents)`)
		return err
	})
}
