package catalogue

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const nearStreamsFor = 2 * time.Second

// Source is the part of the sequencer's catalogue that is asked here.
type Source interface {
	GetStream(ctx context.Context, in *sequencerv1.GetStreamRequest, opts ...grpc.CallOption) (*sequencerv1.GetStreamResponse, error)
	ListStreams(ctx context.Context, in *sequencerv1.ListStreamsRequest, opts ...grpc.CallOption) (*sequencerv1.ListStreamsResponse, error)
}

// Catalogue finds streams by name. Safe for concurrent use.
type Catalogue struct {
	source     Source
	maxStreams int

	mu      sync.Mutex // protects what follows; never held during a call
	byName  map[lane.StreamName]*list.Element
	recent  *list.List // of *Stream, most recently used first
	names   []string   // for "did you mean"
	namesAt time.Time
}

// New makes a Catalogue that keeps at most maxStreams entries.
func New(source Source, maxStreams int) *Catalogue {
	return &Catalogue{source: source, maxStreams: maxStreams, byName: make(map[lane.StreamName]*list.Element), recent: list.New()}
}

// Sees says which streams the caller may know of.
type Sees func(lane.StreamName) bool

// Find gives the stream of that name. Faults: InvalidName, UnknownStream (with near names that the caller sees), or why the sequencer could not be asked.
func (c *Catalogue) Find(ctx context.Context, name lane.StreamName, sees Sees) (*Stream, error) {
	if s := c.kept(name); s != nil {
		return s, nil
	}
	if err := lane.CheckName("stream", string(name)); err != nil {
		return nil, err
	}
	answer, err := c.source.GetStream(ctx, &sequencerv1.GetStreamRequest{Name: string(name)})
	if err != nil {
		return nil, c.Explain(ctx, name, err, sees)
	}
	return c.keep(answer.GetStream())
}

func (c *Catalogue) kept(name lane.StreamName) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byName[name]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*Stream)
}

func (c *Catalogue) keep(s *streamv1.Stream) (*Stream, error) {
	known, err := newStream(s)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byName[known.Name]; e != nil {
		if e.Value.(*Stream).ID >= known.ID { // an answer that was overtaken by a newer life of the name
			return e.Value.(*Stream), nil
		}
		c.remove(e)
	}
	c.byName[known.Name] = c.recent.PushFront(known)
	for c.recent.Len() > c.maxStreams { // I1
		c.remove(c.recent.Back())
	}
	return known, nil
}

func (c *Catalogue) remove(e *list.Element) {
	delete(c.byName, e.Value.(*Stream).Name)
	c.recent.Remove(e)
}

// Forget drops what is known of a name, if it still is the given id; id 0 drops it whatever the id.
func (c *Catalogue) Forget(name lane.StreamName, id lane.StreamID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.namesAt = time.Time{}
	if e := c.byName[name]; e != nil && (id == 0 || e.Value.(*Stream).ID == id) {
		c.remove(e)
	}
}

// Explain adds names that exist and that the caller sees to an UnknownStream fault, in the place of those the sequencer gave, which does not know
// who asks; other errors are returned as they are.
func (c *Catalogue) Explain(ctx context.Context, name lane.StreamName, err error, sees Sees) error {
	if !errors.Is(err, fault.UnknownStream) {
		return err
	}
	visible := slices.DeleteFunc(slices.Clone(c.listNames(ctx)), func(one string) bool { return !sees(lane.StreamName(one)) })
	near := near(string(name), visible)
	if len(near) == 0 {
		return fault.New(fault.UnknownStream, "stream %q not found: create it with `lockstep stream create`, or see `lockstep stream list`", name)
	}
	return fault.New(fault.UnknownStream, "stream %q not found; did you mean %s?", name, quoted(near)).With("near", strings.Join(near, ","))
}

// listNames gives the names that existed at most nearStreamsFor ago (I2); nil when they cannot be had.
func (c *Catalogue) listNames(ctx context.Context) []string {
	c.mu.Lock()
	names, fresh := c.names, time.Since(c.namesAt) < nearStreamsFor
	c.mu.Unlock()
	if fresh {
		return names
	}
	answer, err := c.source.ListStreams(ctx, &sequencerv1.ListStreamsRequest{})
	if err != nil {
		return nil
	}
	names = make([]string, 0, len(answer.GetStreams()))
	for _, s := range answer.GetStreams() {
		names = append(names, s.GetSpec().GetName())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names, c.namesAt = names, time.Now()
	return names
}
