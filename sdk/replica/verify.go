package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
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
// them with the provider's state at the file's cursor. Where the provider still knows its digest there, nothing else is read; where not,
// the state is read and compared by key, leaving out the keys that changed behind the cursor. Nothing is written. The error is not
// nil exactly when the verdict is Unknown. Of cfg, Stream, Gateways and what belongs to the connection are used.
func Verify(ctx context.Context, cfg Config, path string) (Comparison, error) {
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
	c, err := compareView(ctx, cfg, view)
	if err := errors.Join(err, view.Close()); err != nil {
		return Comparison{Rows: c.Rows, Lanes: c.Lanes}, err
	}
	return c, nil
}

func compareView(ctx context.Context, cfg Config, view *store.View) (Comparison, error) {
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
	sets, err := view.Scan()
	if err != nil {
		return Comparison{}, err
	}
	v := &verification{Session: s, cfg: cfg, stream: stream, meta: meta, view: view, c: Comparison{Verdict: Equal}}
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
		if err := v.byKey(ctx, l); err != nil {
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
	*session.Session
	cfg    Config
	stream *streamv1.Stream
	meta   store.Meta
	view   *store.View
	c      Comparison
}

// byKey reads the provider's state of a lane and the file's rows side by side, both rising by key.
func (v *verification) byKey(ctx context.Context, l store.Lane) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows := make(chan store.ViewRow, 1024)
	failed := make(chan error, 1)
	go func() { // ends with the rows or with ctx, which is cancelled before byKey returns
		defer close(rows)
		failed <- v.view.Rows(l.Partition, func(r store.ViewRow) error {
			select {
			case rows <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	defer func() {
		cancel()
		for range rows { // until the reader has gone
		}
	}()
	var suspects []suspectKey
	note := func(key string, k suspectKind, theirs lane.Sequence) {
		suspects = append(suspects, suspectKey{key, k, theirs})
	}
	mine, more := <-rows
	o, err := snapshotOf(ctx, v.Session, v.meta, snapshotWanted{Partition: l.Partition, AtLeast: v.from(l)})
	if err != nil {
		return err
	}
	h := digest.NewHasher(v.meta.DigestSeed)
	var theirs digest.Set
	err = v.each(ctx, o, func(rec *record.Record) error {
		key, e := string(rec.Key), h.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value)
		theirs.Add(e)
		for more && mine.Key < key {
			note(mine.Key, extra, 0)
			mine, more = <-rows
		}
		if !more || mine.Key > key {
			note(key, missing, rec.Sequence)
			return nil
		}
		if mine.Element != e {
			note(key, differing, rec.Sequence)
		}
		mine, more = <-rows
		return nil
	})
	if err != nil {
		return err
	}
	if theirs != o.Set {
		return fault.New(fault.Corrupt, "the rows of snapshot %v of partition %d have digest %v, and it says %v", o.ID, l.Partition, theirs, o.Set)
	}
	for more {
		note(mine.Key, extra, 0)
		mine, more = <-rows
	}
	if err := <-failed; err != nil {
		return err
	}
	return v.judge(ctx, l, o.At, suspects)
}

// from is where the snapshot to compare with must stand: not behind the file, unless the provider is.
func (v *verification) from(l store.Lane) lane.Position {
	if tail, ok := laneOf(v.stream, l.Partition); !ok || lane.Epoch(tail.GetEpoch()) != l.Cursor.Epoch || lane.Sequence(tail.GetTail()) < l.Cursor.Sequence {
		return lane.Position{}
	}
	return l.Cursor
}

// each visits the rows of a snapshot, rising by key, as its chunks come.
func (v *verification) each(ctx context.Context, o offer, visit func(*record.Record) error) error {
	if len(o.Manifest.Rows) == 0 {
		return nil
	}
	d, err := v.Chunks(ctx, &deliveryv1.ChunksRequest{Stream: v.cfg.Stream, Partition: uint32(o.Lane.Partition), Id: o.ID[:], Ranges: []uint32{0, uint32(len(o.Manifest.Rows))}})
	if err != nil {
		return err
	}
	defer d.Close()
	var raw []byte
	for n := range o.Manifest.Rows {
		piece, stored, err := nextPiece(ctx, d, o.ID)
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Unavailable, "the gateway ended before it had sent all chunks of snapshot %v", o.ID)
		}
		if err != nil {
			return err
		}
		if piece.GetContent() != deliveryv1.Piece_CONTENT_CHUNK || piece.GetChunk() != uint32(n) {
			return fault.New(fault.Malformed, "the gateway sent %v %d where chunk %d belongs", piece.GetContent(), piece.GetChunk(), n)
		}
		c := &o.Manifest.Rows[n]
		if raw, err = c.Open(stored, raw); err != nil {
			return err
		}
		if err := eachRow(raw, c.Count, visit); err != nil {
			return err
		}
	}
	return nil
}

type suspectKind int

const (
	differing suspectKind = iota
	missing
	extra
)

// suspectKey is a key whose row is not the provider's newest.
type suspectKey struct {
	key    string
	kind   suspectKind
	theirs lane.Sequence // of the provider's row, 0 when it has none
}

// judge leaves out the keys that changed between the file's cursor and the state that was read: there the file is behind, not wrong.
func (v *verification) judge(ctx context.Context, l store.Lane, at lane.Position, suspects []suspectKey) error {
	if len(suspects) == 0 {
		return nil
	}
	behind := map[string]bool{}
	if at.Epoch == l.Cursor.Epoch && at.Sequence > l.Cursor.Sequence {
		var err error
		if behind, err = v.changedSince(ctx, l, at.Sequence); err != nil {
			return fault.New(fault.Unavailable, "partition %d of the file is at %v and the provider's state at %v: %d rows differ, and which of them only changed since cannot be told: let the replica catch up, then verify again: %w",
				l.Partition, l.Cursor, at, len(suspects), err)
		}
	}
	for _, s := range suspects {
		if behind[s.key] {
			continue
		}
		switch s.kind {
		case differing:
			v.c.Differing++
		case missing:
			v.c.Missing++
		case extra:
			v.c.Extra++
		}
		if len(v.c.Examples) < maxExamples {
			v.c.Examples = append(v.c.Examples, strings.ToValidUTF8(s.key, "?"))
		}
	}
	return nil
}

// changedSince reads the log behind the file's cursor and gives the keys it touches.
func (v *verification) changedSince(ctx context.Context, l store.Lane, until lane.Sequence) (map[string]bool, error) {
	if until-l.Cursor.Sequence > maxReplay {
		return nil, fmt.Errorf("the file is %d records behind", until-l.Cursor.Sequence)
	}
	d, err := v.Range(ctx, &deliveryv1.RangeRequest{Stream: v.cfg.Stream, Partition: uint32(l.Partition), Epoch: uint64(l.Cursor.Epoch),
		From: uint64(l.Cursor.Sequence + 1), Until: uint64(until + 1)})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	open := newOpener(v.meta, l.Partition)
	keys := map[string]bool{}
	next := l.Cursor.Sequence + 1
	for {
		p := open.next(ctx, d)
		if errors.Is(p.err, io.EOF) {
			break
		}
		if p.err != nil {
			return nil, p.err
		}
		if p.delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH {
			continue
		}
		if p.header.Base > next {
			return nil, fmt.Errorf("the log has a hole at %d", next)
		}
		next = max(next, p.header.Next())
		for i := range p.records {
			if s := p.records[i].Sequence; s > l.Cursor.Sequence && s <= until {
				keys[string(p.records[i].Key)] = true
			}
		}
	}
	if next <= until {
		return nil, fmt.Errorf("the log ended at %d", next-1)
	}
	return keys, nil
}
