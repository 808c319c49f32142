// Package lanetail reads the log of a stream from a delivery gateway, lane by lane, for printing.
//
//	Open ─▶ Describe ─▶ per lane: range [from, tail], or subscribe behind `from` ─▶ one channel of records
//
// Invariants:
//
//	I1  the records of a lane come in the order of their sequences, without holes and without repeats, across reconnections too.
//	I2  memory is bounded: credit per lane, one decoded batch per lane.
//	I3  a lost connection is made again with pauses; a refusal that a retry cannot mend ends the reading.
package lanetail

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

const (
	credit         = 16
	requestTimeout = 10 * time.Second
	// silence is how long a gateway may say nothing on a subscription; it sends a status every 5 s.
	silence    = 20 * time.Second
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Config says what to read.
type Config struct {
	Gateway string
	// Token, when set, is the bearer token of SETUP.
	Token  string
	Stream lane.StreamName
	// From is the first sequence of every lane; 0 means the head when Bounded, else behind the tail.
	From lane.Sequence
	// Bounded ends the reading at the tail of the moment it began.
	Bounded bool
	// GiveUpAfter bounds how long the first connection is tried for; later ones are tried for ever.
	GiveUpAfter time.Duration
	Log         *slog.Logger
}

// Record is a record and where it lies. It is valid during the visit.
type Record struct {
	*record.Record
	Partition lane.Partition
	Epoch     lane.Epoch
}

// reading is one run of Read.
type reading struct {
	cfg   Config
	visit chan<- visit
}

type visit struct {
	record Record
	done   chan error
}

// Read calls fn for every record until it returns an error, ctx ends, or a bounded reading has reached its end (nil). fn is called
// from one goroutine at a time.
func Read(ctx context.Context, cfg Config, fn func(Record) error) error {
	lanes, err := cfg.describe(ctx)
	if err != nil {
		return err
	}
	visits := make(chan visit)
	r := &reading{cfg: cfg, visit: visits}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range lanes {
		g.Go(func() error { return r.lane(ctx, l) })
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }() // ends with the lanes
	for {
		select {
		case v := <-visits:
			v.done <- fn(v.record)
		case err := <-ended:
			return err
		}
	}
}

// describe asks for the stream's lanes, retrying for a while.
func (c Config) describe(ctx context.Context) (lanes []*streamv1.Lane, err error) {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		lanes, err = c.describeOnce(ctx)
		if err == nil || !fault.ReasonOf(err).Temporary() || ctx.Err() != nil || time.Since(began) > c.GiveUpAfter {
			return lanes, err
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (c Config) describeOnce(ctx context.Context) ([]*streamv1.Lane, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	payload, err := request(protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: string(c.Stream)})
	if err != nil {
		return nil, err
	}
	answer, err := conn.RequestResponse(ctx, payload)
	if err != nil {
		return nil, restore(err)
	}
	var d deliveryv1.DescribeResponse
	if err := proto.Unmarshal(answer.Data, &d); err != nil {
		return nil, fault.New(fault.Malformed, "the gateway's answer does not decode: %w", err)
	}
	if _, err := protocol.Negotiate(protocol.Current, protocol.Version{Major: d.GetMajor(), Minor: d.GetMinor()}, "the gateway"); err != nil {
		return nil, err
	}
	return d.GetStream().GetLanes(), nil
}

func (c Config) dial(ctx context.Context) (*rsocket.Conn, error) {
	hello, err := proto.Marshal(&deliveryv1.Hello{Major: protocol.Current.Major, Minor: protocol.Current.Minor, Client: "lockstep tail"})
	if err != nil {
		return nil, err
	}
	var metadata []byte
	if c.Token != "" {
		if metadata, err = composite.AppendBearer(nil, c.Token); err != nil {
			return nil, fault.New(fault.InvalidArgument, "the token cannot be sent: %w", err)
		}
	}
	conn, err := rsocket.Dial(ctx, c.Gateway, rsocket.ClientConfig{
		KeepaliveInterval: 5 * time.Second, Lifetime: 15 * time.Second, MetadataMIME: protocol.MetadataMIME, DataMIME: protocol.DataMIME,
		Setup: rsocket.Payload{Metadata: metadata, Data: hello}, Logger: c.Log,
		Limits: rsocket.Limits{MaxFrameBytes: protocol.MaxDeliveryBytes + 64<<10, ReadBufferMaxBytes: 256 << 10},
	})
	if err != nil {
		return nil, fault.New(fault.Unavailable, "no connection to %s: %w", c.Gateway, err)
	}
	return conn, nil
}

func hangUp(conn *rsocket.Conn) {
	_ = conn.Close() // it never fails
	<-conn.Done()
}

// lane reads one lane, connection after connection (I3).
func (r *reading) lane(ctx context.Context, l *streamv1.Lane) error {
	at := place{Partition: lane.Partition(l.GetPartition()), Epoch: lane.Epoch(l.GetEpoch()), next: r.cfg.From, until: lane.Sequence(l.GetTail()) + 1}
	if at.next == 0 {
		at.next = at.until
		if r.cfg.Bounded {
			at.next = lane.Sequence(l.GetHead())
		}
	}
	if r.cfg.Bounded && at.next >= at.until {
		return nil
	}
	pause := firstPause
	for {
		before := at.next
		err := r.connection(ctx, &at)
		if err == nil || ctx.Err() != nil || !fault.ReasonOf(err).Temporary() {
			return err
		}
		r.cfg.Log.Debug("the gateway is away, trying again", "error", err)
		if at.next != before {
			pause = firstPause
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// place is how far a lane was read.
type place struct {
	lane.Partition
	lane.Epoch
	// next to visit; until ends a bounded reading.
	next, until lane.Sequence
}

// connection reads on one connection until it ends; nil when a bounded reading is through.
func (r *reading) connection(ctx context.Context, at *place) error {
	conn, err := r.cfg.dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	in, err := r.open(ctx, conn, at)
	if err != nil {
		return err
	}
	var scratch []byte
	for taken := uint32(0); ; taken++ {
		if taken >= credit/2 {
			if err := in.Request(taken); err == nil {
				taken = 0
			} // else the stream is over, and Recv says how
		}
		recvCtx, cancel := context.WithTimeout(ctx, silence)
		p, err := in.Recv(recvCtx)
		cancel()
		switch {
		case errors.Is(err, io.EOF) && r.cfg.Bounded && at.next >= at.until:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return restore(err)
		}
		var d deliveryv1.Delivery
		if err := proto.Unmarshal(p.Metadata, &d); err != nil {
			return fault.New(fault.Malformed, "a delivery does not decode: %w", err)
		}
		if d.GetKind() != deliveryv1.Delivery_KIND_BATCH {
			continue
		}
		if scratch, err = r.batch(ctx, at, p.Data, scratch); err != nil {
			return err
		}
		if r.cfg.Bounded && at.next >= at.until {
			return nil
		}
	}
}

func (r *reading) open(ctx context.Context, conn *rsocket.Conn, at *place) (*rsocket.Inbound, error) {
	var payload rsocket.Payload
	var err error
	if r.cfg.Bounded {
		payload, err = request(protocol.RouteRange, &deliveryv1.RangeRequest{
			Stream: string(r.cfg.Stream), Partition: uint32(at.Partition), Epoch: uint64(at.Epoch), From: uint64(at.next), Until: uint64(at.until)})
	} else {
		payload, err = request(protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{
			Stream: string(r.cfg.Stream), Partition: uint32(at.Partition), After: &streamv1.Position{Epoch: uint64(at.Epoch), Sequence: uint64(at.next - 1)}})
	}
	if err != nil {
		return nil, err
	}
	in, err := conn.RequestStream(ctx, payload, credit)
	if err != nil {
		return nil, restore(err)
	}
	return in, nil
}

// batch visits the records of a batch that were not visited yet (I1).
func (r *reading) batch(ctx context.Context, at *place, encoded, scratch []byte) ([]byte, error) {
	h, err := batch.ParseHeader(encoded)
	if err != nil {
		return scratch, err
	}
	if h.Base > at.next {
		return scratch, fault.New(fault.Unavailable, "the gateway left out the records [%d, %d) of partition %d", at.next, h.Base, at.Partition)
	}
	body, err := batch.Body(&h, encoded, scratch)
	if err != nil {
		return scratch, err
	}
	records := record.NewReader(body, h.Base)
	done := make(chan error, 1)
	var rec record.Record
	for records.Next(&rec) {
		if rec.Sequence < at.next || r.cfg.Bounded && rec.Sequence >= at.until {
			continue
		}
		select {
		case r.visit <- visit{Record{&rec, at.Partition, h.Epoch}, done}:
		case <-ctx.Done():
			return scratch, ctx.Err()
		}
		if err := <-done; err != nil {
			return scratch, err
		}
		at.next, at.Epoch = rec.Sequence+1, h.Epoch
	}
	if h.Codec != batch.CodecNone {
		scratch = body // the decoder's memory, for the next batch
	}
	return scratch, records.Err()
}

func request(route string, message proto.Message) (rsocket.Payload, error) {
	data, err := proto.Marshal(message)
	if err != nil {
		return rsocket.Payload{}, err
	}
	metadata, err := composite.AppendRoute(nil, route)
	return rsocket.Payload{Metadata: metadata, Data: data}, err
}

// restore gives the fault an engine's error stands for. Connections that end are Unavailable.
func restore(err error) error {
	var e *rsocket.Error
	if errors.As(err, &e) {
		switch e.Code {
		case rsocket.CodeConnectionClose, rsocket.CodeConnectionError, rsocket.CodeCanceled:
			return fault.New(fault.Unavailable, "the gateway ended the connection: %w", err)
		}
		return fault.Parse(e.Data)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.New(fault.Unavailable, "the connection to the gateway failed: %w", err)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
