// Package session knows which connection is the live incarnation of which consumer, on this gateway (S8).
//
// consumer-state gives incarnations; a newer one at this gateway fences the older at once. One at another gateway is found out when
// consumer-state refuses what the older forwards, and at the latest at the regular touch.
//
// Invariants:
//
//	I1  at most one session per stream and consumer; a higher incarnation replaces a lower one, never the reverse.
//	I2  whatever was opened under a session that ended by fencing is failed with ConsumerFenced.
//	I3  requests are served only under the session's own incarnation and connection.
//	I4  a command to a consumer is told to everything that is open under its session, and to what is opened later, until it is settled;
//	    at most maxCommands are open, the newest.
package session

import (
	"maps"
	"slices"
	"sync"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/reach"
)

// Key names a consumer of a stream.
type Key struct {
	Stream   lane.StreamID
	Consumer lane.ConsumerID
}

// Session is one live incarnation.
type Session struct {
	Key         Key
	Name        lane.StreamName
	Incarnation lane.Incarnation
	// Owner tells connections apart; compared only.
	Owner any
	// Reach is how far this incarnation was taken.
	Reach reach.Marks

	// Protected by Registry.mu.
	members  map[*Member]struct{}
	over     error
	commands []*deliveryv1.Reset // not settled, oldest first
}

// maxCommands of one session are open at once.
const maxCommands = 16

// Member is something that was opened under a session. Neither function may block.
type Member struct {
	// Fail is called when the session is fenced.
	Fail func(error)
	// Tell is called with every command that is open or comes; perhaps repeatedly with one.
	Tell func(*deliveryv1.Reset)
}

// Registry is safe for concurrent use.
type Registry struct {
	mu   sync.Mutex // protects what follows and all sessions' members
	live map[Key]*Session
}

// NewRegistry has no sessions.
func NewRegistry() *Registry { return &Registry{live: make(map[Key]*Session)} }

// Attach makes s the live session of its consumer and fences the one before; s itself is refused when a newer one is live (I1).
func (r *Registry) Attach(s *Session) error {
	r.mu.Lock()
	before := r.live[s.Key]
	if before != nil && before.Incarnation > s.Incarnation {
		r.mu.Unlock()
		return Fenced(s.Key.Consumer, s.Incarnation)
	}
	s.members = make(map[*Member]struct{})
	r.live[s.Key] = s
	failed := endLocked(before)
	r.mu.Unlock()
	failed.tell()
	return nil
}

// Get gives the session a request belongs to (I3).
func (r *Registry) Get(k Key, incarnation lane.Incarnation, owner any) (*Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.live[k]
	if s == nil || s.Incarnation != incarnation || s.Owner != owner {
		return nil, Fenced(k.Consumer, incarnation)
	}
	return s, nil
}

// Join ties m to s, and tells it what is open; leave undoes it.
func (r *Registry) Join(s *Session, m *Member) (leave func(), err error) {
	r.mu.Lock()
	if s.over != nil {
		r.mu.Unlock()
		return nil, s.over
	}
	s.members[m] = struct{}{}
	commands := slices.Clone(s.commands)
	r.mu.Unlock()
	for _, c := range commands {
		m.Tell(c)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(s.members, m)
	}, nil
}

// Fence ends the session of k if its incarnation is at most the given one, because a newer one lives elsewhere.
func (r *Registry) Fence(k Key, incarnation lane.Incarnation) {
	r.mu.Lock()
	s := r.live[k]
	if s == nil || s.Incarnation > incarnation {
		r.mu.Unlock()
		return
	}
	delete(r.live, k)
	failed := endLocked(s)
	r.mu.Unlock()
	failed.tell()
}

// Leave ends s quietly; what was opened under it goes on without it until its connection closes it. False: it had ended before.
func (r *Registry) Leave(s *Session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[s.Key] != s {
		return false
	}
	delete(r.live, s.Key)
	return true
}

// Command tells a command to the live session of k, if it is of the given incarnation or a newer one (I4). False: there is none here.
func (r *Registry) Command(k Key, incarnation lane.Incarnation, c *deliveryv1.Reset) bool {
	r.mu.Lock()
	s := r.live[k]
	if s == nil || s.Incarnation < incarnation {
		r.mu.Unlock()
		return false
	}
	s.settleLocked([]string{c.GetCommandId()})
	if len(s.commands) >= maxCommands {
		s.commands = slices.Delete(s.commands, 0, 1)
	}
	s.commands = append(s.commands, c)
	members := slices.Collect(maps.Keys(s.members))
	r.mu.Unlock()
	for _, m := range members {
		m.Tell(c)
	}
	return true
}

// Settle forgets the commands whose end was reported.
func (r *Registry) Settle(s *Session, commands []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.settleLocked(commands)
}

func (s *Session) settleLocked(commands []string) {
	s.commands = slices.DeleteFunc(s.commands, func(c *deliveryv1.Reset) bool { return slices.Contains(commands, c.GetCommandId()) })
}

// All is a copy of the live sessions.
func (r *Registry) All() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Session, 0, len(r.live))
	for _, s := range r.live {
		all = append(all, s)
	}
	return all
}

type failures struct {
	members []*Member
	why     error
}

func (f failures) tell() {
	for _, m := range f.members {
		m.Fail(f.why)
	}
}

func endLocked(s *Session) (f failures) {
	if s == nil {
		return f
	}
	s.over = Fenced(s.Key.Consumer, s.Incarnation)
	f.why = s.over
	for m := range s.members {
		f.members = append(f.members, m)
	}
	s.members = nil
	return f
}

// Fenced is the refusal of an incarnation that is not the live one here.
func Fenced(c lane.ConsumerID, incarnation lane.Incarnation) error {
	return fault.New(fault.ConsumerFenced, "incarnation %d of consumer %q is not the live one on this connection: a newer one was attached, or this one never was; attach again if you are the only one",
		incarnation, c)
}
