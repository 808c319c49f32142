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
package session

import (
	"sync"

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
	members map[*member]struct{}
	over    error
}

type member struct{ fail func(error) }

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
	s.members = make(map[*member]struct{})
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

// Join ties something to s: fail is called when s is fenced. leave undoes it.
func (r *Registry) Join(s *Session, fail func(error)) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.over != nil {
		return nil, s.over
	}
	m := &member{fail}
	s.members[m] = struct{}{}
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
	members []*member
	why     error
}

func (f failures) tell() {
	for _, m := range f.members {
		m.fail(f.why)
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
