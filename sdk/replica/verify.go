package replica

import (
	"context"
	"errors"
	"os"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// Verdict is the answer of Verify.
type Verdict int

// Verdicts.
const (
	// Unknown: it could not be told; the error says why.
	Unknown Verdict = iota
	// Equal: every row is the provider's at the file's cursor.
	Equal
	// Different: some rows are not; Comparison counts them.
	Different
)

// String gives the verdict in a word.
func (v Verdict) String() string { return [...]string{"unknown", "equal", "different"}[v] }

// Comparison is what Verify found.
type Comparison struct {
	Verdict Verdict
	// Rows is how many rows the file has.
	Rows uint64
	// Differing is how many keys have another row than the provider's, Missing how many have none in the file, Extra how many have
	// one only in the file. Examples names up to 10 of these keys.
	Differing, Missing, Extra uint64
	Examples                  []string
	// MovedBytes is what the comparison moved over the network.
	MovedBytes uint64
	// Lanes says where each partition was compared, and how far the file is behind the provider's tail.
	Lanes []ComparedLane
}

// Total is the number of keys that are not as they should be.
func (c Comparison) Total() uint64 { return c.Differing + c.Missing + c.Extra }

// ComparedLane is one partition's part in a Comparison.
type ComparedLane struct {
	Partition lane.Partition
	Cursor    lane.Position
	Tail      lane.Sequence
}

const (
	maxExamples = 10
	// maxReplay bounds how many records between the file's cursor and the tail Verify reads to tell "behind" from "different".
	maxReplay = 2_000_000
)

// Verify reads every row of the file at path, which may be a replica that is kept up meanwhile or a plain copy of one, and compares
// them with the provider's state at the file's cursor. Where the provider still knows its digest there, nothing else is asked; where not,
// the rows that differ are found by a sketch of the state, leaving out the keys that changed behind the cursor. Nothing is written. The
// error is not nil exactly when the verdict is Unknown. Of cfg, Stream, Gateways and what belongs to the connection are used.
func Verify(ctx context.Context, cfg Config, path string) (Comparison, error) {
	return Diff(ctx, cfg, path, nil)
}

// RowDifference is one row that is not as it should be.
type RowDifference struct {
	Partition lane.Partition
	Key       string
	// Mine and Theirs are the sequences of the file's row and of the provider's; 0 where there is none. They are equal when the same
	// record's row was changed.
	Mine, Theirs lane.Sequence
}

// Diff is Verify, and visits every row that differs; the order is not defined, and an error of visit ends it. nil visits nothing.
func Diff(ctx context.Context, cfg Config, path string, visit func(RowDifference) error) (Comparison, error) {
	cfg.Path = path
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Comparison{}, err
	}
	if _, err := os.Stat(path); err != nil {
		return Comparison{}, fault.New(fault.InvalidArgument, "there is no replica at %s: %w", path, err)
	}
	view, err := store.OpenView(ctx, path)
	if err != nil {
		return Comparison{}, err
	}
	c, err := compareView(ctx, cfg, view, visit)
	if err := errors.Join(err, view.Close()); err != nil {
		return Comparison{Rows: c.Rows, Lanes: c.Lanes}, err
	}
	return c, nil
}

func compareView(ctx context.Context, cfg Config, view *store.View, visit func(RowDifference) error) (Comparison, error) {
	anonymous := cfg.session()
	anonymous.ConsumerID = ""
	s, err := session.Dial(ctx, anonymous, 0)
	if err != nil {
		return Comparison{}, err
	}
	defer s.Close()
	stream, err := s.Describe(ctx, cfg.Stream)
	if err != nil {
		return Comparison{}, err
	}
	meta, err := metaOf(stream)
	if err != nil {
		return Comparison{}, err
	}
	if err := store.CheckSame(cfg.Path, view.Meta(), meta); err != nil {
		return Comparison{}, err
	}
	seen, err := view.Survey(func(lane.Partition) bool { return true })
	if err != nil {
		return Comparison{}, err
	}
	sets := seen.Sets
	v := &verification{source: source{Session: s, stream: cfg.Stream}, described: stream, meta: meta, view: view, visit: visit, c: Comparison{Verdict: Equal}}
	for _, l := range view.Lanes() {
		v.c.Rows += sets[l.Partition].Count
		tail, ok := laneOf(stream, l.Partition)
		if !ok {
			return v.c, fault.New(fault.Malformed, "the provider does not say where partition %d stands", l.Partition)
		}
		v.c.Lanes = append(v.c.Lanes, ComparedLane{Partition: l.Partition, Cursor: l.Cursor, Tail: lane.Sequence(tail.GetTail())})
		if m, ok := markOf(tail.GetDigest()); ok && m.at == l.Cursor && m.set == sets[l.Partition] {
			continue
		}
		if err := v.lane(ctx, l, seen.IDs[l.Partition]); err != nil {
			return v.c, err
		}
	}
	if v.c.Total() > 0 {
		v.c.Verdict = Different
	}
	return v.c, nil
}

func laneOf(s *streamv1.Stream, p lane.Partition) (*streamv1.Lane, bool) {
	for _, l := range s.GetLanes() {
		if l.GetPartition() == uint32(p) {
			return l, true
		}
	}
	return nil, false
}

// verification compares one file with one provider.
type verification struct {
	source
	described *streamv1.Stream
	meta      store.Meta
	view      *store.View
	visit     func(RowDifference) error // nil: nobody
	c         Comparison
}

// lane compares one partition, whose rows have these IDs: by a sketch, or by all rows when too many differ.
func (v *verification) lane(ctx context.Context, l store.Lane, ids []sketch.ID) error {
	t, err := askTarget(ctx, v.source, l.Partition, v.from(l), nil)
	if err != nil {
		return err
	}
	v.c.MovedBytes += t.moved
	found, moved, err := difference(ctx, v.source, t, ids)
	v.c.MovedBytes += moved
	if errors.Is(err, errTooDifferent) {
		return v.byKey(ctx, l)
	}
	if err != nil {
		return err
	}
	mine := map[string]lane.Sequence{}
	err = v.view.Locate(l.Partition, found.Ours, func(row store.Row) error {
		mine[row.Key] = row.Sequence
		return nil
	})
	if err != nil {
		return err
	}
	var suspects []RowDifference
	moved, err = fetchRows(ctx, v.source, t, found.Theirs, func(p *packet) error {
		return p.eachRow(func(rec *record.Record) error {
			key := string(rec.Key)
			suspects = append(suspects, RowDifference{Partition: l.Partition, Key: key, Mine: mine[key], Theirs: rec.Sequence})
			delete(mine, key)
			return nil
		})
	})
	v.c.MovedBytes += moved
	if err != nil {
		return err
	}
	for key, at := range mine {
		suspects = append(suspects, RowDifference{Partition: l.Partition, Key: key, Mine: at})
	}
	return v.judge(ctx, l, t, suspects)
}

// from is where the snapshot to compare with must stand: not behind the file, unless the provider is.
func (v *verification) from(l store.Lane) lane.Position {
	if tail, ok := laneOf(v.described, l.Partition); !ok || lane.Epoch(tail.GetEpoch()) != l.Cursor.Epoch || lane.Sequence(tail.GetTail()) < l.Cursor.Sequence {
		return lane.Position{}
	}
	return l.Cursor
}
