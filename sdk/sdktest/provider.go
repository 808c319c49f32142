package sdktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"sync"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// Stream is what CreateStream makes.
type Stream struct {
	Name string
	// Partitions is 1 when 0.
	Partitions uint32
	// Keyed streams have a state and a digest.
	Keyed bool
}

// Record is a record to publish, or one that was.
type Record struct {
	Key       string
	Value     []byte
	Headers   map[string]string
	Tombstone bool
	// TimeMS is the present when 0.
	TimeMS int64
}

// Provider is the fake. Safe for concurrent use.
type Provider struct {
	gateway *rsocket.Server
	ingest  *grpc.Server
	tcp     net.Listener
	rpc     net.Listener
	stop    context.CancelFunc
	serving sync.WaitGroup

	mu        sync.Mutex // protects what follows
	streams   map[string]*stream
	nextID    uint64
	consumers map[string]*consumer
	producers map[string]uint64 // epochs
	conns     map[*rsocket.Conn]struct{}
	faults    faults
	counted   chunkCount
}

type stream struct {
	spec  *streamv1.StreamSpec
	id    lane.StreamID
	seed  uint64
	lanes []*laneLog
	// published remembers idempotent records: where each producer sequence went.
	published map[publishedKey]lanePosition
	highest   map[producerLane]uint64
}

type lanePosition struct {
	partition lane.Partition
	sequence  lane.Sequence
}

// heartbeatEvery is how often subscriptions get a status.
const heartbeatEvery = 5 * time.Second

// New starts a provider on two loopback ports. Close it.
func New() (*Provider, error) {
	p := &Provider{streams: map[string]*stream{}, consumers: map[string]*consumer{}, producers: map[string]uint64{}, conns: map[*rsocket.Conn]struct{}{}}
	var err error
	if p.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("sdktest: %w", err)
	}
	if p.rpc, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(fmt.Errorf("sdktest: %w", err), p.tcp.Close())
	}
	p.gateway = rsocket.NewServer(rsocket.ServerConfig{}, p.accept)
	p.ingest = grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	ingestv1.RegisterIngestServer(p.ingest, &ingestServer{p: p})
	ingestv1.RegisterStreamsServer(p.ingest, &streamsServer{p: p})
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.serving.Go(func() { _ = p.gateway.Serve(ctx, p.tcp) }) // ends with Close
	p.serving.Go(func() { _ = p.ingest.Serve(p.rpc) })       // ends with Close
	p.serving.Go(func() { p.beat(ctx) })
	return p, nil
}

// Close ends all connections and waits for them.
func (p *Provider) Close() error {
	p.stop()
	p.ingest.Stop()
	err := p.gateway.Close()
	p.serving.Wait()
	return err
}

// Gateway is the address consumers and replicas take, such as tcp://127.0.0.1:40123.
func (p *Provider) Gateway() string { return "tcp://" + p.tcp.Addr().String() }

// Ingest is the address producers take, such as 127.0.0.1:40124.
func (p *Provider) Ingest() string { return p.rpc.Addr().String() }

// CreateStream makes a stream; an existing name is refused.
func (p *Provider) CreateStream(s Stream) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.createLocked(&streamv1.StreamSpec{Name: s.Name, Partitions: s.Partitions, Keyed: s.Keyed})
	return err
}

func (p *Provider) createLocked(spec *streamv1.StreamSpec) (*stream, error) {
	if err := lane.CheckName("stream", spec.GetName()); err != nil {
		return nil, err
	}
	if p.streams[spec.GetName()] != nil {
		return nil, fault.New(fault.StreamExists, "stream %q exists", spec.GetName())
	}
	p.nextID++
	s := &stream{spec: spec, id: lane.StreamID(p.nextID), seed: 0x9E3779B97F4A7C15 * p.nextID, published: map[publishedKey]lanePosition{}, highest: map[producerLane]uint64{}}
	spec.Partitions = max(1, spec.GetPartitions())
	for i := range spec.GetPartitions() {
		s.lanes = append(s.lanes, newLaneLog(lane.ID{Stream: s.id, Partition: lane.Partition(i)}, s.seed, spec.GetKeyed()))
	}
	p.streams[spec.GetName()] = s
	return s, nil
}

// DeleteStream forgets a stream; its name may be used for another.
func (p *Provider) DeleteStream(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.streamLocked(name); err != nil {
		return err
	}
	delete(p.streams, name)
	return nil
}

func (p *Provider) streamLocked(name string) (*stream, error) {
	if s := p.streams[name]; s != nil {
		return s, nil
	}
	return nil, fault.New(fault.UnknownStream, "there is no stream %q", name)
}

// Publish appends records, one batch for each partition they fall into.
func (p *Provider) Publish(name string, records ...Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.streamLocked(name)
	if err != nil {
		return err
	}
	perLane := map[lane.Partition][]record.Record{}
	for _, r := range records {
		rec, err := r.encode(s.spec.GetKeyed())
		if err != nil {
			return err
		}
		at := lane.Of(rec.Key, s.spec.GetPartitions())
		perLane[at] = append(perLane[at], rec)
	}
	for at, recs := range perLane {
		s.lanes[at].append(recs)
	}
	return nil
}

func (r Record) encode(keyed bool) (record.Record, error) {
	headers, err := record.NewHeaders(r.Headers)
	if err != nil {
		return record.Record{}, err
	}
	rec := record.Record{Key: []byte(r.Key), Value: r.Value, Headers: headers, Tombstone: r.Tombstone, TimeMS: r.TimeMS}
	if rec.TimeMS == 0 {
		rec.TimeMS = time.Now().UnixMilli()
	}
	return rec, rec.Check(keyed)
}

// Put publishes one value.
func (p *Provider) Put(stream, key, value string) error {
	return p.Publish(stream, Record{Key: key, Value: []byte(value)})
}

// Delete publishes one tombstone.
func (p *Provider) Delete(stream, key string) error {
	return p.Publish(stream, Record{Key: key, Tombstone: true})
}

// State gives the newest value of every key of a keyed stream.
func (p *Provider) State(name string) map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := map[string]string{}
	if s := p.streams[name]; s != nil {
		for _, l := range s.lanes {
			for key, rec := range l.state {
				state[key] = string(rec.Value)
			}
		}
	}
	return state
}

// Log gives the records of one partition in order, from its first.
func (p *Provider) Log(name string, partition uint32) []Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[name]
	if s == nil || int(partition) >= len(s.lanes) {
		return nil
	}
	var records []Record
	for _, rec := range s.lanes[partition].records() {
		headers, _ := rec.Headers.Map() // they were canonical when they came in
		records = append(records, Record{Key: string(rec.Key), Value: rec.Value, Headers: headers, Tombstone: rec.Tombstone, TimeMS: rec.TimeMS})
	}
	return records
}

// Tail is the last sequence of a partition; 0 when there is none, or no such partition.
func (p *Provider) Tail(name string, partition uint32) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.lane(name, partition)
	if err != nil {
		return 0
	}
	return uint64(l.tail)
}

// Cursor gives the highest sequence a consumer has acknowledged in a partition, 0 for none.
func (p *Provider) Cursor(stream, consumerID string, partition uint32) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.consumers[stream+"/"+consumerID]; c != nil {
		return c.cursors[partition].GetSequence()
	}
	return 0
}

// Consumers lists the consumer ids that ever attached to a stream.
func (p *Provider) Consumers(stream string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, c := range p.consumers {
		if c.stream == stream {
			ids = append(ids, c.id)
		}
	}
	sort.Strings(ids)
	return ids
}

func (p *Provider) beat(ctx context.Context) {
	t := time.NewTicker(heartbeatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			p.mu.Lock()
			for _, s := range p.streams {
				for _, l := range s.lanes {
					l.beat()
				}
			}
			p.mu.Unlock()
		}
	}
}

func (s *stream) wire() *streamv1.Stream {
	w := &streamv1.Stream{Spec: s.spec, Id: uint64(s.id), DigestSeed: s.seed}
	for _, l := range s.lanes {
		w.Lanes = append(w.Lanes, l.wire())
	}
	return w
}
