package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// Load reads everything that is kept.
func (s *Store) Load(ctx context.Context) (roster.Kept, error) {
	kept := roster.Kept{Highest: make(map[lane.ID]lane.Position)}
	consumers := make(map[roster.Key]*roster.Consumer)
	err := s.each(ctx, "SELECT stream_id, consumer_id, stream, kind, incarnation, left, client, gateway, first_seen_ms, last_seen_ms, health FROM consumer",
		func(rows *sql.Rows) error {
			var stream, incarnation int64
			c := &roster.Consumer{Cursors: make(map[lane.Partition]roster.Cursor)}
			if err := rows.Scan(&stream, &c.ID, &c.Name, &c.Kind, &incarnation, &c.Left, &c.Client, &c.Gateway, &c.FirstSeenMs, &c.LastSeenMs, &c.Health); err != nil {
				return err
			}
			c.Stream, c.Incarnation = lane.StreamID(stream), lane.Incarnation(incarnation)
			consumers[c.Key] = c
			kept.Consumers = append(kept.Consumers, c)
			return nil
		})
	if err != nil {
		return kept, err
	}
	err = s.each(ctx, "SELECT stream_id, consumer_id, partition, epoch, sequence, time_ms FROM cursor", func(rows *sql.Rows) error {
		var stream, partition, epoch, sequence, timeMs int64
		var id lane.ConsumerID
		if err := rows.Scan(&stream, &id, &partition, &epoch, &sequence, &timeMs); err != nil {
			return err
		}
		c := consumers[roster.Key{Stream: lane.StreamID(stream), ID: id}]
		if c == nil {
			return fmt.Errorf("a cursor of consumer %q of stream id %d has no consumer", id, uint64(stream))
		}
		c.Cursors[lane.Partition(partition)] = roster.Cursor{Position: position(epoch, sequence), TimeMs: timeMs}
		return nil
	})
	if err != nil {
		return kept, err
	}
	err = s.each(ctx, "SELECT stream_id, partition, epoch, sequence FROM highest", func(rows *sql.Rows) error {
		var stream, partition, epoch, sequence int64
		if err := rows.Scan(&stream, &partition, &epoch, &sequence); err != nil {
			return err
		}
		kept.Highest[lane.ID{Stream: lane.StreamID(stream), Partition: lane.Partition(partition)}] = position(epoch, sequence)
		return nil
	})
	if err != nil {
		return kept, err
	}
	err = s.each(ctx, "SELECT incarnation FROM floor", func(rows *sql.Rows) error {
		var incarnation int64
		err := rows.Scan(&incarnation)
		kept.Floor = lane.Incarnation(incarnation)
		return err
	})
	return kept, err
}

func (s *Store) each(ctx context.Context, query string, row func(*sql.Rows) error) error {
	rows, err := s.db.QueryContext(ctx, query)
	if err != nil {
		return named(err, FileName)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return fmt.Errorf("reading %s: %w", FileName, err)
		}
	}
	return named(rows.Err(), FileName)
}

func position(epoch, sequence int64) lane.Position {
	return lane.Position{Epoch: lane.Epoch(epoch), Sequence: lane.Sequence(sequence)}
}
