package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// Load reads everything that is kept.
func (s *Store) Load(ctx context.Context) (roster.Kept, error) {
	kept := roster.Kept{Highest: make(map[lane.ID]lane.Position)}
	consumers := make(map[roster.Key]*roster.Consumer)
	err := s.each(ctx, "SELECT stream_id, consumer_id, stream, kind, incarnation, left, client, gateway, first_seen_ms, last_seen_ms, health, rewound FROM consumer",
		func(rows *sql.Rows) error {
			var stream, incarnation int64
			c := &roster.Consumer{Cursors: make(map[lane.Partition]roster.Cursor)}
			if err := rows.Scan(&stream, &c.ID, &c.Name, &c.Kind, &incarnation, &c.Left, &c.Client, &c.Gateway, &c.FirstSeenMs, &c.LastSeenMs, &c.Health, &c.Rewound); err != nil {
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
	if err := s.loadResets(ctx, consumers); err != nil {
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

// loadResets gives consumers their commands. Consumers that were told the same share the command, as when it was issued.
func (s *Store) loadResets(ctx context.Context, consumers map[roster.Key]*roster.Consumer) error {
	commands := make(map[roster.Command]*roster.Command)
	return s.each(ctx, `SELECT stream_id, consumer_id, command_id, action, from_sequence, from_time_ms, dry_run, max_bytes_per_second, why,
		issued_ms, to_all, number, state, progress, updated_ms FROM reset ORDER BY stream_id, consumer_id, number`, func(rows *sql.Rows) error {
		var stream, from, bytesPerSecond, number int64
		var id lane.ConsumerID
		var command roster.Command
		r := &roster.Reset{}
		if err := rows.Scan(&stream, &id, &command.ID, &command.Action, &from, &command.FromTimeMs, &command.DryRun, &bytesPerSecond, &command.Why,
			&command.IssuedMs, &command.All, &number, &r.State, &r.Progress, &r.UpdatedMs); err != nil {
			return err
		}
		c := consumers[roster.Key{Stream: lane.StreamID(stream), ID: id}]
		if c == nil {
			return fmt.Errorf("command %q has no consumer %q of stream id %d", command.ID, id, uint64(stream))
		}
		if !command.Action.Known() || !r.State.Known() {
			return fault.New(fault.Corrupt, "command %q to consumer %q has action %d and state %d, which cannot be: restore the file from a copy, or delete that row", command.ID, id, int32(command.Action), int32(r.State))
		}
		command.FromSequence, command.MaxBytesPerSecond, r.Number = lane.Sequence(from), uint64(bytesPerSecond), uint64(number)
		if commands[command] == nil {
			commands[command] = &command
		}
		r.Command = commands[command]
		c.Resets = append(c.Resets, r)
		return nil
	})
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
