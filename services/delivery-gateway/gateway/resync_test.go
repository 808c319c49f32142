package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/snaptest"
)

// keep puts a snapshot of so many rows into the house's storage.
func (h *house) keep(rows int, at lane.Sequence) *snaptest.Kept {
	h.t.Helper()
	k, err := snaptest.Make(snaptest.State{Stream: "orders", Lane: lane.ID{Stream: streamID}, Epoch: 1, Rows: rows, ValueBytes: 190, At: at, Floor: lane.Sequence(rows) / 2})
	if err != nil {
		h.t.Fatal(err)
	}
	h.store.snaps.Put(k)
	return k
}

// pieces receives a whole stream of answers.
func (r *reading) pieces(each func(d *deliveryv1.Delivery, data []byte)) error {
	r.t.Helper()
	for {
		d, data, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(d, data)
	}
}

// manifest asks for a snapshot.
func manifest(t testing.TB, c *rsocket.Conn, in *deliveryv1.SnapshotRequest) (*snapshot.Manifest, snapshot.ID, error) {
	t.Helper()
	in.Stream = "orders"
	var m *snapshot.Manifest
	var id snapshot.ID
	err := open(t, c, protocol.RouteSnapshot, in, 4).pieces(func(d *deliveryv1.Delivery, data []byte) {
		switch d.GetKind() {
		case deliveryv1.Delivery_KIND_STATUS:
			if m != nil || d.GetPiece().GetExpected() == 0 {
				t.Errorf("a status: %v", d)
			}
		case deliveryv1.Delivery_KIND_BOOTSTRAP:
			var err error
			id, _ = snapshot.ParseID(d.GetPiece().GetSnapshot())
			if m, err = snapshot.ParseManifest(bytes.Clone(data), id); err != nil || d.GetPiece().GetContent() != deliveryv1.Piece_CONTENT_MANIFEST {
				t.Errorf("%v, %v", d, err)
			}
		default:
			t.Errorf("unexpected %v", d)
		}
	})
	return m, id, err
}

// fetch takes chunks and checks them.
func fetch(t testing.TB, c *rsocket.Conn, m *snapshot.Manifest, id snapshot.ID, ranges ...uint32) (got []uint32, err error) {
	t.Helper()
	err = open(t, c, protocol.RouteChunks, &deliveryv1.ChunksRequest{Stream: "orders", Id: id[:], Ranges: ranges}, 4).pieces(func(d *deliveryv1.Delivery, data []byte) {
		p := d.GetPiece()
		if d.GetKind() != deliveryv1.Delivery_KIND_PIECE || p.GetContent() != deliveryv1.Piece_CONTENT_CHUNK || !m.Chunk(int(p.GetChunk())).Holds(data) || len(p.GetSnapshot()) > 0 {
			t.Errorf("not a chunk: %v", d)
		}
		got = append(got, p.GetChunk())
	})
	return got, err
}

func TestBootstrapFromASnapshot(t *testing.T) {
	dir := t.TempDir()
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.SnapshotDir = dir })
	h.store.lane.Append(20_000, 10)
	k := h.keep(20_000, 20_000)
	c := h.dial()
	m, id, err := manifest(t, c, &deliveryv1.SnapshotRequest{AtLeast: &streamv1.Position{Epoch: 1, Sequence: 20_000}})
	if err != nil || id != k.ID || m.Set != k.Set {
		t.Fatalf("%v, %v", id, err)
	}
	brief := open(t, c, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders", Id: id[:], Brief: true}, 4)
	d, data, err := brief.next()
	if mark := d.GetDigest(); err != nil || len(data) != 0 || d.GetKind() != deliveryv1.Delivery_KIND_BOOTSTRAP || !bytes.Equal(d.GetPiece().GetSnapshot(), id[:]) ||
		mark.GetSequence() != 20_000 || mark.GetCount() != m.Set.Count || !bytes.Equal(mark.GetSum(), m.Set.Sum.Append(nil)) ||
		d.GetPiece().GetFloor() != uint64(m.Floor) || d.GetPiece().GetRowBytes() != m.RowBytes() {
		t.Fatalf("in brief: %v, %d bytes, %v", d, len(data), err)
	}
	if err := brief.ends(); err != nil {
		t.Fatal(err)
	}
	n := uint32(m.Chunks())
	if got, err := fetch(t, c, m, id, 0, n); err != nil || len(got) != int(n) || !slices.IsSorted(got) {
		t.Fatalf("%v, %v", got, err)
	}
	if got, err := fetch(t, c, m, id, 0, 1, 2, 3); err != nil || !slices.Equal(got, []uint32{0, 2}) {
		t.Fatalf("%v, %v", got, err)
	}
	if opens, _, sent := h.store.snaps.Counts(); opens != 1 || sent != int64(len(k.File)) {
		t.Fatalf("storage was asked %d times and sent %d bytes", opens, sent)
	}
	// The gateway's copy rots. Another connection takes what was proven when it came; asked once more, the gateway proves and mends.
	file, err := os.OpenFile(filepath.Join(dir, id.String()+".chunks"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte{^k.File[k.Chunk(1).Offset+9]}, int64(k.Chunk(1).Offset)+9); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if got, err := fetch(t, c, m, id, 1, 2); err != nil || len(got) != 1 {
		t.Fatalf("asked again: %v, %v", got, err)
	}
	if got, err := fetch(t, h.dial(), m, id, 1, 2); err != nil || len(got) != 1 {
		t.Fatalf("another consumer: %v, %v", got, err)
	}
	// Another gateway goes on with the same snapshot, though storage has a newer one by now.
	h.keep(100, 30_000)
	other := newHouse(t)
	other.store.snaps.Put(k)
	if got, err := fetch(t, other.dial(), m, id, n-1, n); err != nil || len(got) != 1 {
		t.Fatalf("another gateway: %v, %v", got, err)
	}
	if _, err := fetch(t, c, m, snapshot.ID{9}, 0, 1); !errors.Is(err, fault.SnapshotGone) {
		t.Fatalf("an unknown snapshot: %v", err)
	}
}

func TestChangesSymbolsAndRows(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(12_050, 10)
	k := h.keep(12_000, 12_050)
	c := h.dial()
	_, id, err := manifest(t, c, &deliveryv1.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	unpack := func(d *deliveryv1.Delivery, data []byte) []byte {
		raw, err := snapshot.Unpack(data, int(d.GetPiece().GetRawBytes()), nil)
		if err != nil {
			t.Error(err)
		}
		return raw
	}
	rowsOf := func(raw []byte) (out []record.Record) {
		r := state.NewReader(raw)
		for one := (record.Record{}); r.Next(&one); {
			out = append(out, one)
		}
		return out
	}
	var rows, dead int
	err = open(t, c, protocol.RouteChanges, &deliveryv1.ChangesRequest{Stream: "orders", Id: id[:], Since: 11_900}, 2).pieces(func(d *deliveryv1.Delivery, data []byte) {
		raw := unpack(d, data)
		if d.GetPiece().GetContent() == deliveryv1.Piece_CONTENT_TOMBSTONES {
			dead += int(d.GetPiece().GetCount())
			return
		}
		for _, r := range rowsOf(raw) {
			if rows++; r.Sequence <= 11_900 {
				t.Errorf("row %d did not change", r.Sequence)
			}
		}
	})
	if err != nil || rows != 100 || dead != 50 {
		t.Fatalf("%v, %d rows, %d tombstones", err, rows, dead)
	}
	err = open(t, c, protocol.RouteChanges, &deliveryv1.ChangesRequest{Stream: "orders", Id: id[:], Since: 5_999}, 2).ends()
	if !errors.Is(err, fault.Expired) || fault.Of(err).Detail("head") != "6001" {
		t.Fatalf("below the floor: %v", err)
	}

	// A replica with stale, missing and extra rows.
	hasher := digest.NewHasher(snaptest.Seed)
	element := func(r record.Record) sketch.ID {
		return sketch.IDOf(hasher.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))
	}
	var ours []sketch.ID
	for i := range 12_000 {
		r := snaptest.State{ValueBytes: 190}.Record(i)
		switch {
		case i%1000 == 3:
			continue
		case i%1000 == 5:
			r.Value = []byte("stale")
		case i%1000 == 7:
			extra := r
			extra.Key = []byte("extra")
			ours = append(ours, element(extra))
		}
		ours = append(ours, element(r))
	}
	find := sketch.NewDifference(sketch.New(ours))
	s := open(t, c, protocol.RouteSketch, &deliveryv1.SketchRequest{Stream: "orders", Id: id[:]}, 1)
	for !find.Done() {
		d, data, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		block, err := sketch.ParseBlock(data)
		if err != nil || d.GetPiece().GetContent() != deliveryv1.Piece_CONTENT_SYMBOLS || block.First != uint64(find.Symbols()) || int(d.GetPiece().GetCount()) != len(block.Symbols) {
			t.Fatalf("%v, %v", d, err)
		}
		if err := find.Add(block.Symbols); err != nil {
			t.Fatal(err)
		}
	}
	s.in.Cancel()
	found := find.Found()
	if len(found.Theirs) != 24 || len(found.Ours) != 24 {
		t.Fatalf("%d and %d differ", len(found.Theirs), len(found.Ours))
	}
	var elements []byte
	for _, e := range found.Theirs {
		elements = binary.BigEndian.AppendUint64(elements, uint64(e))
	}
	var got []record.Record
	err = open(t, c, protocol.RouteRows, &deliveryv1.RowsRequest{Stream: "orders", Id: id[:], Elements: elements}, 2).pieces(func(d *deliveryv1.Delivery, data []byte) {
		got = append(got, rowsOf(unpack(d, data))...)
	})
	if err != nil || len(got) != 24 || !slices.IsSortedFunc(got, func(a, b record.Record) int { return bytes.Compare(a.Key, b.Key) }) {
		t.Fatalf("%v, %d rows", err, len(got))
	}
	// From the middle, to the end, which comes by itself.
	at, total := uint64(1000), 0
	err = open(t, c, protocol.RouteSketch, &deliveryv1.SketchRequest{Stream: "orders", Id: id[:], From: at}, 4).pieces(func(_ *deliveryv1.Delivery, data []byte) {
		block, err := sketch.ParseBlock(data)
		if err != nil || block.First != at {
			t.Errorf("%d, not %d: %v", block.First, at, err)
		}
		at += uint64(len(block.Symbols))
		total += len(data)
	})
	if err != nil || total < len(k.File)/2 || total > 2*len(k.File) {
		t.Fatalf("%v, %d bytes of symbols for %d of rows", err, total, len(k.File))
	}
}

func TestResyncRequestsAreRefused(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("some trades\nall *\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.TokensFile = tokens })
	k := h.keep(100, 100)
	dial := func(token string) *rsocket.Conn {
		c, err := rsocket.Dial(t.Context(), h.address(), setup(t, current, token))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(); <-c.Done() })
		return c
	}
	all, some := dial("all"), dial("some")
	id := k.ID[:]
	chunks := func(ranges ...uint32) *deliveryv1.ChunksRequest {
		return &deliveryv1.ChunksRequest{Stream: "orders", Id: id, Ranges: ranges}
	}
	rows := func(bytes int) *deliveryv1.RowsRequest {
		return &deliveryv1.RowsRequest{Stream: "orders", Id: id, Elements: make([]byte, bytes)}
	}
	for name, x := range map[string]struct {
		r      *reading
		reason fault.Reason
	}{
		"snapshot without a grant":  {open(t, some, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders"}, 1), fault.NotPermitted},
		"chunks without a grant":    {open(t, some, protocol.RouteChunks, chunks(0, 1), 1), fault.NotPermitted},
		"changes without a grant":   {open(t, some, protocol.RouteChanges, &deliveryv1.ChangesRequest{Stream: "orders", Id: id}, 1), fault.NotPermitted},
		"sketch without a grant":    {open(t, some, protocol.RouteSketch, &deliveryv1.SketchRequest{Stream: "orders", Id: id}, 1), fault.NotPermitted},
		"rows without a grant":      {open(t, some, protocol.RouteRows, rows(8), 1), fault.NotPermitted},
		"another's snapshot":        {open(t, some, protocol.RouteChunks, &deliveryv1.ChunksRequest{Stream: "trades", Id: id, Ranges: []uint32{0, 1}}, 1), fault.UnknownStream},
		"short id":                  {open(t, all, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders", Id: id[:31]}, 1), fault.InvalidArgument},
		"no id":                     {open(t, all, protocol.RouteChanges, &deliveryv1.ChangesRequest{Stream: "orders"}, 1), fault.InvalidArgument},
		"gone":                      {open(t, all, protocol.RouteSketch, &deliveryv1.SketchRequest{Stream: "orders", Id: bytes.Repeat([]byte{7}, 32)}, 1), fault.SnapshotGone},
		"unknown partition":         {open(t, all, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders", Partition: 1 << 31}, 1), fault.InvalidArgument},
		"unknown stream":            {open(t, all, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "order"}, 1), fault.UnknownStream},
		"ahead of what there is":    {open(t, all, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders", AtLeast: &streamv1.Position{Epoch: 9, Sequence: 1}}, 1), fault.Internal},
		"no chunks":                 {open(t, all, protocol.RouteChunks, chunks(), 1), fault.InvalidArgument},
		"half a range":              {open(t, all, protocol.RouteChunks, chunks(0), 1), fault.InvalidArgument},
		"an empty range":            {open(t, all, protocol.RouteChunks, chunks(0, 0), 1), fault.InvalidArgument},
		"a range backwards":         {open(t, all, protocol.RouteChunks, chunks(1, 0), 1), fault.InvalidArgument},
		"ranges that overlap":       {open(t, all, protocol.RouteChunks, chunks(0, 2, 1, 3), 1), fault.InvalidArgument},
		"beyond the chunks":         {open(t, all, protocol.RouteChunks, chunks(0, 1<<32-1), 1), fault.InvalidArgument},
		"since what is not yet":     {open(t, all, protocol.RouteChanges, &deliveryv1.ChangesRequest{Stream: "orders", Id: id, Since: 101}, 1), fault.InvalidArgument},
		"no rows":                   {open(t, all, protocol.RouteRows, rows(0), 1), fault.InvalidArgument},
		"half an element":           {open(t, all, protocol.RouteRows, rows(12), 1), fault.InvalidArgument},
		"too many rows":             {open(t, all, protocol.RouteRows, rows(8*protocol.MaxRowsAsked+8), 1), fault.InvalidArgument},
		"not a request of the sort": {open(t, all, protocol.RouteChunks, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: "\x08"}, 1), fault.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			x.r.t = t
			if err := x.r.ends(); !errors.Is(err, x.reason) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// 200 empty replicas at once: one pull, every one gets all, none waits for ever; and what they may hold is bounded.
func TestHerd(t *testing.T) {
	const herd = 200
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.MaxBootstraps = 4 })
	k := h.keep(9000, 9000)
	lift := h.store.snaps.Gate()
	var wg sync.WaitGroup
	var refusals atomic.Int64
	for range herd {
		c := h.dial()
		wg.Go(func() {
			m, id, err := manifest(t, c, &deliveryv1.SnapshotRequest{})
			if err != nil {
				t.Error(err)
				return
			}
			for {
				got, err := fetch(t, c, m, id, 0, uint32(m.Chunks()))
				if err == nil && len(got) == k.Chunks() {
					return
				}
				ms, parseErr := strconv.Atoi(fault.Of(err).Detail("retry_after_ms"))
				if !errors.Is(err, fault.Overloaded) || parseErr != nil || ms <= 0 {
					t.Errorf("%d chunks, %v", len(got), err)
					return
				}
				refusals.Add(1) // obeying is tested with places; here all press on
			}
		})
	}
	lift()
	wg.Wait()
	if opens, _, sent := h.store.snaps.Counts(); opens != 1 || sent != int64(len(k.File)) {
		t.Fatalf("storage was asked %d times and sent %d of %d bytes", opens, sent, len(k.File))
	}
	t.Logf("%d refusals", refusals.Load())
}

func TestPlacesAreCountedPerConnectionAndSnapshot(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.MaxBootstraps, c.MaxRepairs = 1, 1 })
	k := h.keep(12_000, 12_000)
	c, other := h.dial(), h.dial()
	m, id, err := manifest(t, c, &deliveryv1.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	request := &deliveryv1.ChunksRequest{Stream: "orders", Id: id[:], Ranges: []uint32{0, uint32(k.Chunks())}}
	held, err := c.RequestStream(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteChunks), Data: message(t, request)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Recv(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, c, m, id, 0, 1); err != nil {
		t.Fatalf("a second stream of the same bootstrap: %v", err)
	}
	if _, err := fetch(t, other, m, id, 0, 1); !errors.Is(err, fault.Overloaded) {
		t.Fatalf("another's bootstrap: %v", err)
	}
	if err := open(t, other, protocol.RouteChanges, &deliveryv1.ChangesRequest{Stream: "orders", Id: id[:], Since: 12_000}, 4).ends(); err != nil {
		t.Fatalf("a repair, which has places of its own: %v", err)
	}
	held.Cancel()
	eventually(t, "the place is free", func() bool { _, err := fetch(t, other, m, id, 0, 1); return err == nil })
}

// The position of a snapshot counts as delivered once something of it was sent (S7).
func TestTheCursorOfASnapshotIsBelieved(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(500, 10)
	k := h.keep(400, 400)
	c := h.dial()
	incarnation := attach(t, c, "a")
	ack := func() error {
		return ask(t, c, protocol.RouteAck, &deliveryv1.AckRequest{Stream: "orders", ConsumerId: "a", Incarnation: incarnation,
			Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: 400}}}}, new(deliveryv1.AckResponse))
	}
	if err := ack(); err == nil {
		t.Fatal("a cursor was taken of what was never sent")
	}
	m, id, err := manifest(t, c, &deliveryv1.SnapshotRequest{})
	if err != nil || id != k.ID {
		t.Fatal(err)
	}
	if _, err := fetch(t, c, m, id, 0, uint32(m.Chunks())); err != nil {
		t.Fatal(err)
	}
	if err := ack(); err != nil {
		t.Fatal(err)
	}
}

// A grant that is taken away ends what runs under it (S12).
func TestABootstrapEndsWithItsGrant(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("some orders\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.TokensFile = tokens })
	k := h.keep(12_000, 12_000)
	c, err := rsocket.Dial(t.Context(), h.address(), setup(t, current, "some"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); <-c.Done() })
	in, err := c.RequestStream(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteChunks),
		Data: message(t, &deliveryv1.ChunksRequest{Stream: "orders", Id: k.ID[:], Ranges: []uint32{0, uint32(k.Chunks())}})}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Recv(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokens, []byte("some trades\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := in.Recv(ctx); !errors.Is(restored(err), fault.NotPermitted) {
		t.Fatalf("got %v", err)
	}
}

// What a stranger sends as a request is answered, whatever it is.
func FuzzResyncRequests(f *testing.F) {
	h := newHouse(f)
	k := h.keep(300, 320)
	routes := []string{protocol.RouteSnapshot, protocol.RouteChunks, protocol.RouteChanges, protocol.RouteSketch, protocol.RouteRows}
	f.Add(uint8(0), message(f, &deliveryv1.SnapshotRequest{Stream: "orders", AtLeast: &streamv1.Position{Epoch: 1, Sequence: 300}}))
	f.Add(uint8(1), message(f, &deliveryv1.ChunksRequest{Stream: "orders", Id: k.ID[:], Ranges: []uint32{0, 1, 1, 2}}))
	f.Add(uint8(2), message(f, &deliveryv1.ChangesRequest{Stream: "orders", Id: k.ID[:], Since: 290}))
	f.Add(uint8(3), message(f, &deliveryv1.SketchRequest{Stream: "orders", Id: k.ID[:], From: 1 << 62}))
	f.Add(uint8(4), message(f, &deliveryv1.RowsRequest{Stream: "orders", Id: k.ID[:], Elements: make([]byte, 64)}))
	f.Add(uint8(1), []byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, route uint8, data []byte) {
		c, err := rsocket.Dial(t.Context(), h.address(), setup(t, current, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(); <-c.Done() }()
		in, err := c.RequestStream(t.Context(), rsocket.Payload{Metadata: metadata(routes[int(route)%len(routes)]), Data: data}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		r := &reading{t: t, in: in}
		for range 1000 {
			if _, _, err := r.next(); err != nil {
				if errors.Is(err, context.DeadlineExceeded) {
					t.Fatal("no answer")
				}
				return
			}
		}
		t.Fatal("a thousand pieces of three hundred rows")
	})
}
