package sequencer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
)

func TestRetention(t *testing.T) {
	big := strings.Repeat("v", 100)
	for name, r := range map[string]*streamv1.Retention{
		"records": {MaxRecords: 10},
		"bytes":   {MaxBytes: 2000},
		"age":     {MaxAgeMs: 1}, // the records' times are in 1970
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := sequencer.Config{Dir: dir, SegmentBytes: 2 << 10, RetentionInterval: 10 * time.Millisecond}
			h := open(t, cfg)
			s := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true, Retention: r})
			other := h.create(t, &streamv1.StreamSpec{Name: "kept", Keyed: true})
			for range 60 {
				h.append(t, s, row{key: "a", value: big}, row{key: "b", value: big})
				h.append(t, other, row{key: "a", value: big})
			}
			h.append(t, s, row{key: "c", value: "last"})
			var head uint64
			eventually(t, "the head moves to the bound", func() bool {
				l := h.lane(t, s)
				head = l.GetHead()
				switch name {
				case "records":
					return l.GetTail()-head+1 <= 11 && head > 100
				case "bytes":
					return l.GetBytes() <= 2000 && head > 50
				default:
					return head == 122
				}
			})
			_, err := h.read(t, s, 1, 0)
			reason(t, err, fault.Expired)
			if f := fault.Of(err); f.Detail("head") == "" || f.Detail("from") != "1" {
				t.Fatalf("details %v", f.Details())
			}
			if records, err := h.read(t, s, head, 0); err != nil || len(records) != int(121-head+1) {
				t.Fatal(len(records), err)
			}
			again := func(h *house) {
				t.Helper()
				if rows, mark := h.readState(t, s); len(rows) != 3 || mark.GetSequence() != 121 { // the state is kept beyond the log
					t.Fatal(rows, mark)
				}
				if records, err := h.read(t, other, 1, 0); err != nil || len(records) != 60 {
					t.Fatal(len(records), err)
				}
			}
			again(h)
			h.close(t)
			h = open(t, cfg)
			again(h)
			if got := h.append(t, s, row{key: "d", value: "x"}); got != 122 {
				t.Fatalf("after retention and a restart sequence %d", got)
			}
			h.close(t)
			if report, err := sequencer.Check(t.Context(), dir); err != nil || len(report.Problems) > 0 {
				t.Fatalf("%+v %v", report, err)
			}
		})
	}
}

func TestStreams(t *testing.T) {
	dir := t.TempDir()
	cfg := sequencer.Config{Dir: dir, RetentionInterval: 10 * time.Millisecond, SegmentBytes: 1 << 10}
	h := open(t, cfg)
	s := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true})
	if again := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true, Partitions: 1}); again.GetId() != s.GetId() {
		t.Fatal("if_absent made another stream")
	}
	_, err := h.streams.CreateStream(t.Context(), &sequencerv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: "orders", Partitions: 2}, IfAbsent: true})
	reason(t, err, fault.StreamExists)
	_, err = h.streams.CreateStream(t.Context(), &sequencerv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: "orders"}})
	reason(t, err, fault.StreamExists)
	_, err = h.streams.CreateStream(t.Context(), &sequencerv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: "-"}})
	reason(t, err, fault.InvalidName)
	_, err = h.streams.CreateStream(t.Context(), &sequencerv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: "x", Partitions: 5000}})
	reason(t, err, fault.InvalidArgument)
	_, err = h.streams.GetStream(t.Context(), &sequencerv1.GetStreamRequest{Name: "order"})
	reason(t, err, fault.UnknownStream)
	if near := fault.Of(err).Detail("near"); near != "orders" {
		t.Fatalf("near %q", near)
	}
	for range 30 {
		h.append(t, s, row{key: "a", value: strings.Repeat("v", 100)})
	}
	if _, err := h.streams.DeleteStream(t.Context(), &sequencerv1.DeleteStreamRequest{Name: "orders"}); err != nil {
		t.Fatal(err)
	}
	_, err = h.Append(t.Context(), request(s, row{key: "a", value: "v"}))
	reason(t, err, fault.UnknownStream)
	anew := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true})
	if anew.GetId() == s.GetId() || anew.GetDigestSeed() == s.GetDigestSeed() {
		t.Fatal("the id or seed of a deleted stream was used again")
	}
	if got := h.append(t, anew, row{key: "a", value: "new"}); got != 1 {
		t.Fatalf("sequence %d", got)
	}
	h.close(t)
	h = open(t, cfg)
	list, err := h.streams.ListStreams(t.Context(), &sequencerv1.ListStreamsRequest{})
	if err != nil || len(list.GetStreams()) != 1 || list.GetStreams()[0].GetId() != anew.GetId() {
		t.Fatal(list, err)
	}
	if rows, _ := h.readState(t, anew); len(rows) != 1 || rows["a"] != "new" {
		t.Fatal(rows)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir})
	if _, err := sequencer.Check(t.Context(), dir); err == nil {
		t.Fatal("a directory in use was checked")
	} else {
		reason(t, err, fault.InUse)
	}
	h.close(t)
}

func TestRetentionGivesSpaceBack(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir, SegmentBytes: 256 << 10, RetentionInterval: 10 * time.Millisecond})
	s := h.create(t, &streamv1.StreamSpec{Name: "log", Retention: &streamv1.Retention{MaxRecords: 10}})
	const value, appends = 64 << 10, 100
	for i := range appends {
		h.append(t, s, row{value: incompressible(i, value)})
	}
	kept := func() (bytes int64) {
		for _, pattern := range []string{"log/*.blob", "log/*.sst"} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range files {
				if info, err := os.Stat(name); err == nil { // it may go at any moment
					bytes += info.Size()
				}
			}
		}
		return bytes
	}
	eventually(t, "what expired leaves the disk", func() bool {
		l := h.lane(t, s)
		return l.GetHead() > appends-15 && kept() < appends*value/2
	})
}

// A crash between saying that an extent may go and deleting it: the next start finishes the work.
func TestInterruptedFreeing(t *testing.T) {
	dir, _, plain := filled(t)
	c, err := catalogue.Open(filepath.Join(dir, "catalogue.db"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const plainLane = 2 // lanes are numbered as they were created
	extents, _, err := c.Extents()
	if err != nil || len(extents[plainLane]) < 2 {
		t.Fatalf("%v %v", extents, err)
	}
	x := extents[plainLane][0]
	if err := errors.Join(c.AdvanceHead(plainLane, x.Last+1), c.RaiseFloor(plainLane, x.Last, x.Chain)); err != nil {
		t.Fatal(err)
	}
	h := open(t, sequencer.Config{Dir: dir, SegmentBytes: 64 << 10})
	if l := h.lane(t, plain); l.GetHead() != uint64(x.Last+1) || l.GetTail() != 40 {
		t.Fatalf("%v", l)
	}
	if records, err := h.read(t, plain, uint64(x.Last+1), 0); err != nil || len(records) != 40-int(x.Last) {
		t.Fatal(len(records), err)
	}
	h.close(t)
	if extents, _, err = c.Extents(); err != nil || extents[plainLane][0].Segment == x.Segment {
		t.Fatalf("the row of the freed extent is still there: %v %v", extents, err)
	}
	if report, err := sequencer.Check(t.Context(), dir); err != nil || len(report.Problems) > 0 {
		t.Fatalf("%+v %v", report, err)
	}
}
