package consumerstate

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

const (
	// maxTextBytes bounds the texts for people: client, gateway, why a command was issued, what a consumer had for a problem with it.
	maxTextBytes = 512
	// maxHealthBytes bounds an encoded health: 1024 digests of up to 60 bytes and a problem.
	maxHealthBytes = 96 << 10
)

func checkKey(stream uint64, id string) (roster.Key, error) {
	if stream == 0 {
		return roster.Key{}, fault.New(fault.InvalidArgument, "the stream id is missing: ids begin at 1; nothing was stored")
	}
	if err := lane.CheckName("consumer", id); err != nil {
		return roster.Key{}, err
	}
	return roster.Key{Stream: lane.StreamID(stream), ID: lane.ConsumerID(id)}, nil
}

func checkTexts(texts ...string) error {
	for _, text := range texts {
		if len(text) > maxTextBytes {
			return fault.New(fault.InvalidArgument, "the text %.40q... has %d bytes and may have %d; nothing was stored", text, len(text), maxTextBytes)
		}
	}
	return nil
}

// readCursors refuses what cannot be a place in a lane. what is "cursor" or "tail". Of a partition named twice the higher counts.
func readCursors(what string, cursors []*consumerv1.Cursor) (map[lane.Partition]roster.Cursor, error) {
	if len(cursors) > lane.MaxPartitions {
		return nil, fault.New(fault.InvalidArgument, "%d %ss in one call, and a stream has at most %d partitions; nothing was stored", len(cursors), what, lane.MaxPartitions)
	}
	read := make(map[lane.Partition]roster.Cursor, len(cursors))
	for _, c := range cursors {
		partition := lane.Partition(c.GetPartition())
		position := lane.Position{Epoch: lane.Epoch(c.GetPosition().GetEpoch()), Sequence: lane.Sequence(c.GetPosition().GetSequence())}
		if partition >= lane.MaxPartitions {
			return nil, fault.New(fault.InvalidArgument, "a %s names partition %d, and partitions end at %d; nothing was stored", what, partition, lane.MaxPartitions-1)
		}
		if position.Epoch == 0 && position.Sequence != 0 {
			return nil, fault.New(fault.InvalidArgument, "the %s of partition %d has sequence %d and no epoch; nothing was stored", what, partition, position.Sequence)
		}
		if known, ok := read[partition]; !ok || known.Position.Compare(position) < 0 {
			read[partition] = roster.Cursor{Position: position, TimeMs: c.GetTimeMs()}
		}
	}
	return read, nil
}

func protoCursor(partition lane.Partition, c roster.Cursor) *consumerv1.Cursor {
	return &consumerv1.Cursor{Partition: uint32(partition), Position: protoPosition(c.Position), TimeMs: c.TimeMs}
}

// protoCursors are ordered by partition.
func protoCursors(cursors map[lane.Partition]roster.Cursor) []*consumerv1.Cursor {
	out := make([]*consumerv1.Cursor, 0, len(cursors))
	for partition, c := range cursors {
		out = append(out, protoCursor(partition, c))
	}
	sortCursors(out)
	return out
}

func sortCursors(cursors []*consumerv1.Cursor) {
	slices.SortFunc(cursors, func(a, b *consumerv1.Cursor) int { return cmp.Compare(a.GetPartition(), b.GetPartition()) })
}

// consumer is what people and tools see. A lane is shown when there is a cursor in it or its tail is known.
func (s *Service) consumer(c *roster.Consumer, nowMs int64) (*consumerv1.Consumer, error) {
	shown := &consumerv1.Consumer{
		Stream: string(c.Name), StreamId: uint64(c.Stream), ConsumerId: string(c.ID), Kind: consumerv1.ConsumerKind(c.Kind),
		Incarnation: uint64(c.Incarnation), Attached: c.Attached(nowMs, s.cfg.SilentAfter.Milliseconds()),
		Client: c.Client, Gateway: c.Gateway, FirstSeenMs: c.FirstSeenMs, LastSeenMs: c.LastSeenMs,
	}
	if c.Health != nil {
		shown.Health = &consumerv1.Health{}
		if err := proto.Unmarshal(c.Health, shown.Health); err != nil {
			return nil, fault.New(fault.Corrupt, "the stored health of consumer %q cannot be read: %w", c.ID, err)
		}
	}
	for _, r := range c.Resets {
		progress, err := readProgress(c, r)
		if err != nil {
			return nil, err
		}
		if shown.Health == nil {
			shown.Health = &consumerv1.Health{} // it has said nothing, and yet there is something to say
		}
		shown.Health.Resets = append(shown.Health.Resets, progress)
	}
	partitions := s.tails.Partitions(c.Stream)
	for partition := range c.Cursors {
		partitions = append(partitions, partition)
	}
	slices.Sort(partitions)
	for _, partition := range slices.Compact(partitions) {
		shown.Lanes = append(shown.Lanes, s.laneLag(c, partition, nowMs))
	}
	return shown, nil
}

func (s *Service) laneLag(c *roster.Consumer, partition lane.Partition, nowMs int64) *consumerv1.LaneLag {
	shown := &consumerv1.LaneLag{Cursor: &consumerv1.Cursor{Partition: uint32(partition)}}
	var at *lane.Position
	if cursor, ok := c.Cursors[partition]; ok {
		shown.Cursor, at = protoCursor(partition, cursor), &cursor.Position
	}
	id := lane.ID{Stream: c.Stream, Partition: partition}
	s.showExpiry(shown, c, id, at, nowMs)
	l := s.tails.Of(id, at, nowMs)
	if l.Heard {
		shown.Tail = protoPosition(l.Tail)
	}
	if l.Known { // I4
		shown.Records, shown.Seconds, shown.AtLeast = &l.Records, &l.Seconds, l.AtLeast
	}
	return shown
}
