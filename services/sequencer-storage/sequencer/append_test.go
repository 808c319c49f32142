package sequencer_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// from makes an append of one producer's records numbered from first on.
func from(s *streamv1.Stream, producer string, epoch, first uint64, rows ...row) *sequencerv1.AppendRequest {
	r := request(s, rows...)
	r.Runs = []*sequencerv1.ProducerRun{{Count: uint32(len(rows)), ProducerId: producer, ProducerEpoch: epoch, SequenceRuns: []uint64{first, uint64(len(rows))}}}
	return r
}

func TestIdempotentPublish(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir})
	s := h.create(t, &streamv1.StreamSpec{Name: "log"})
	opened, err := h.OpenProducer(t.Context(), &sequencerv1.OpenProducerRequest{ProducerId: "p"})
	if err != nil || opened.GetProducerEpoch() != 1 {
		t.Fatalf("epoch %v %v", opened, err)
	}
	for i := range uint64(3) {
		r, err := h.Append(t.Context(), from(s, "p", 1, 1+2*i, row{value: "x"}, row{value: "y"}))
		if err != nil || r.GetFirstSequence() != 1+2*i {
			t.Fatalf("append %d: %v %v", i, r, err)
		}
	}
	duplicates := func(h *house) {
		t.Helper()
		// 4 to 7: three are there already, 7 is new; nothing is written.
		r, err := h.Append(t.Context(), from(s, "p", 1, 4, row{value: "y"}, row{value: "x"}, row{value: "y"}, row{value: "z"}))
		if err != nil || r.GetFirstSequence() != 0 || len(r.GetRefusals()) != 1 || r.GetRefusals()[0].GetFault() != nil {
			t.Fatalf("%v %v", r, err)
		}
		want := []*sequencerv1.Duplicate{{Offset: 0, Count: 1, Epoch: 1, FirstSequence: 4}, {Offset: 1, Count: 2, Epoch: 1, FirstSequence: 5}}
		if d := cmp.Diff(want, r.GetRefusals()[0].GetDuplicates(), protocmp.Transform()); d != "" {
			t.Fatal(d)
		}
		if tail := h.lane(t, s).GetTail(); tail != 6 {
			t.Fatalf("tail %d", tail)
		}
	}
	duplicates(h)
	h.close(t)
	h = open(t, sequencer.Config{Dir: dir})
	duplicates(h) // the index survives

	// A gap upwards is fine, going back behind it is not.
	if r, err := h.Append(t.Context(), from(s, "p", 1, 10, row{value: "x"})); err != nil || r.GetFirstSequence() != 7 {
		t.Fatalf("%v %v", r, err)
	}
	r, err := h.Append(t.Context(), from(s, "p", 1, 8, row{value: "x"}))
	if err != nil || r.GetRefusals()[0].GetFault().GetReason() != string(fault.OutOfOrder) {
		t.Fatalf("%v %v", r, err)
	}

	// A new epoch fences the old one, also in lanes the new one never wrote to.
	if opened, err = h.OpenProducer(t.Context(), &sequencerv1.OpenProducerRequest{ProducerId: "p"}); err != nil || opened.GetProducerEpoch() != 2 {
		t.Fatalf("epoch %v %v", opened, err)
	}
	if r, err = h.Append(t.Context(), from(s, "p", 1, 11, row{value: "x"})); err != nil || r.GetRefusals()[0].GetFault().GetReason() != string(fault.ProducerFenced) {
		t.Fatalf("%v %v", r, err)
	}
	if r, err = h.Append(t.Context(), from(s, "p", 2, 1, row{value: "x"})); err != nil || r.GetFirstSequence() != 8 {
		t.Fatalf("%v %v", r, err)
	}
	_, err = h.Append(t.Context(), from(s, "p", 3, 1, row{value: "x"}))
	reason(t, err, fault.InvalidArgument)
}

func TestOneRefusedRunWritesNothing(t *testing.T) {
	h := open(t, sequencer.Config{Dir: t.TempDir()})
	s := h.create(t, &streamv1.StreamSpec{Name: "log"})
	for _, p := range []string{"p", "q"} {
		if _, err := h.OpenProducer(t.Context(), &sequencerv1.OpenProducerRequest{ProducerId: p}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Append(t.Context(), from(s, "p", 1, 1, row{value: "x"})); err != nil {
		t.Fatal(err)
	}
	r := request(s, row{value: "x"}, row{value: "y"})
	r.Runs = []*sequencerv1.ProducerRun{
		{Count: 1, ProducerId: "q", ProducerEpoch: 1, SequenceRuns: []uint64{1, 1}},
		{Count: 1, ProducerId: "p", ProducerEpoch: 1, SequenceRuns: []uint64{1, 1}},
	}
	got, err := h.Append(t.Context(), r)
	if err != nil || len(got.GetRefusals()) != 2 || len(got.GetRefusals()[0].GetDuplicates()) != 0 || len(got.GetRefusals()[1].GetDuplicates()) != 1 {
		t.Fatalf("%v %v", got, err)
	}
	// The fine run goes through alone: it was not taken for written.
	if got, err := h.Append(t.Context(), from(s, "q", 1, 1, row{value: "x"})); err != nil || got.GetFirstSequence() != 2 {
		t.Fatalf("%v %v", got, err)
	}
}

func TestBadAppends(t *testing.T) {
	h := open(t, sequencer.Config{Dir: t.TempDir()})
	s := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true})
	good := func() *sequencerv1.AppendRequest { return request(s, row{key: "k", value: "v"}) }
	for name, c := range map[string]struct {
		change func(*sequencerv1.AppendRequest)
		want   fault.Reason
	}{
		"no bytes":          {func(r *sequencerv1.AppendRequest) { r.Batch = nil }, fault.Malformed},
		"a flipped byte":    {func(r *sequencerv1.AppendRequest) { r.Batch[len(r.Batch)-1] ^= 1 }, fault.Malformed},
		"another lane's":    {func(r *sequencerv1.AppendRequest) { r.Batch[79]++ }, fault.InvalidArgument},
		"a newer format":    {func(r *sequencerv1.AppendRequest) { r.Batch[2] = 9 }, fault.UnsupportedVersion},
		"runs short":        {func(r *sequencerv1.AppendRequest) { r.Runs = nil }, fault.InvalidArgument},
		"runs long":         {func(r *sequencerv1.AppendRequest) { r.Runs[0].Count = 2 }, fault.InvalidArgument},
		"sequences odd":     {func(r *sequencerv1.AppendRequest) { r.Runs[0].ProducerId, r.Runs[0].SequenceRuns = "p", []uint64{1} }, fault.InvalidArgument},
		"unopened producer": {func(r *sequencerv1.AppendRequest) { *r = *from(s, "nobody", 1, 1, row{key: "k", value: "v"}) }, fault.InvalidArgument},
		"no key":            {func(r *sequencerv1.AppendRequest) { r.Batch = draft(s, row{value: "v"}) }, fault.KeyMissing},
		"unknown stream":    {func(r *sequencerv1.AppendRequest) { r.StreamId, r.Stream = 0, "oders" }, fault.UnknownStream},
		"unknown stream id": {func(r *sequencerv1.AppendRequest) { r.StreamId = 99 }, fault.UnknownStream},
		"unknown partition": {func(r *sequencerv1.AppendRequest) { r.Partition = 1 }, fault.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			c.change(r)
			_, err := h.Append(t.Context(), r)
			reason(t, err, c.want)
		})
	}
	if tail := h.lane(t, s).GetTail(); tail != 0 {
		t.Fatalf("tail %d after refusals only", tail)
	}
}

func TestReadRefusals(t *testing.T) {
	h := open(t, sequencer.Config{Dir: t.TempDir()})
	s := h.create(t, &streamv1.StreamSpec{Name: "log"})
	h.append(t, s, row{value: "x"})
	_, err := h.read(t, s, 3, 0)
	reason(t, err, fault.AheadOfTail)
	_, err = h.read(t, s, 0, 0)
	reason(t, err, fault.InvalidArgument)
	if records, err := h.read(t, s, 2, 0); err != nil || len(records) != 0 { // at the tail: nothing, not an error
		t.Fatal(records, err)
	}
	stream, err := h.Read(t.Context(), &sequencerv1.ReadRequest{StreamId: s.GetId(), From: 1, Epoch: 7})
	if err == nil {
		_, err = stream.Recv()
	}
	reason(t, err, fault.EpochMismatch)
	_, _, err = h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{StreamId: s.GetId()})
	reason(t, err, fault.NotKeyed)
}

func TestDiskFullRefusesAppendsOnly(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir})
	s := h.create(t, &streamv1.StreamSpec{Name: "log"})
	h.append(t, s, row{value: "x"})
	h.close(t)
	h = open(t, sequencer.Config{Dir: dir, ReserveBytes: 1 << 62}) // no disk has that much
	_, err := h.Append(t.Context(), request(s, row{value: "y"}))
	reason(t, err, fault.DiskFull)
	if records, err := h.read(t, s, 1, 0); err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	h.close(t)
	h = open(t, sequencer.Config{Dir: dir})
	if got := h.append(t, s, row{value: "y"}); got != 2 { // the refusal used no sequence
		t.Fatalf("sequence %d", got)
	}
}

func TestConcurrentAppendsOfManyLanes(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir, SegmentBytes: 16 << 10})
	const lanes, appends = 8, 60
	var wg sync.WaitGroup
	streams := make([]*streamv1.Stream, lanes)
	for i := range lanes {
		streams[i] = h.create(t, &streamv1.StreamSpec{Name: fmt.Sprintf("s%d", i), Keyed: i%2 == 0})
		wg.Go(func() {
			for n := range appends {
				h.append(t, streams[i], row{key: fmt.Sprint(n % 7), value: fmt.Sprint(n)}, row{key: "k", value: fmt.Sprint(n)})
			}
		})
	}
	wg.Wait()
	verify := func(h *house) {
		t.Helper()
		for i, s := range streams {
			records, err := h.read(t, s, 1, 0)
			if err != nil || len(records) != 2*appends {
				t.Fatalf("%d records, %v", len(records), err)
			}
			for k, r := range records {
				if r.Sequence != lane.Sequence(k+1) || string(r.Value) != fmt.Sprint(k/2) {
					t.Fatalf("record %d is %d %q", k, r.Sequence, r.Value)
				}
			}
			if i%2 == 0 {
				if rows, mark := h.readState(t, s); len(rows) != 8 || mark.GetSequence() != 2*appends {
					t.Fatal(rows, mark)
				}
			}
		}
	}
	verify(h)
	h.close(t)
	verify(open(t, sequencer.Config{Dir: dir, SegmentBytes: 16 << 10}))
}
