package watch

import (
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// Limits are the bounds of I3.
type Limits struct {
	Watches int
	// Entries of one watch that wait to be taken.
	Entries int
}

// Board holds the watches. Safe for concurrent use.
type Board struct {
	limits Limits

	mu      sync.Mutex // protects everything below, and what is in each watch
	watches map[*Watch]struct{}
	closed  bool
}

// NewBoard makes an empty one.
func NewBoard(limits Limits) *Board {
	return &Board{limits: limits, watches: make(map[*Watch]struct{})}
}

// Watch is one watcher's. Take and Leave are for one goroutine.
type Watch struct {
	board   *Board
	gateway string
	// More has a token when there is something to take, or an end to hear of.
	More    chan struct{}
	waiting map[roster.Key]struct{}
	end     error
}

// Join begins a watch, which the caller must Leave.
func (b *Board) Join(gateway string) (*Watch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, stopping()
	}
	if len(b.watches) >= b.limits.Watches { // I3
		return nil, fault.New(fault.Overloaded, "%d gateways watch already, and no more are allowed: end some, or try again later", len(b.watches)).With("retry_after_ms", "5000")
	}
	w := &Watch{board: b, gateway: gateway, More: make(chan struct{}, 1), waiting: make(map[roster.Key]struct{})}
	b.watches[w] = struct{}{}
	return w, nil
}

// Tell says that a consumer at a gateway has a command waiting.
func (b *Board) Tell(gateway string, consumer roster.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watches {
		if w.gateway == gateway {
			w.add(consumer)
		}
	}
}

// Len gives the number of watches.
func (b *Board) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.watches)
}

// Close ends all watches, and those to come.
func (b *Board) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for w := range b.watches {
		w.finish(stopping())
	}
}

// Tell says it to this watch only: what was waiting when it began.
func (w *Watch) Tell(consumer roster.Key) {
	w.board.mu.Lock()
	defer w.board.mu.Unlock()
	w.add(consumer)
}

// Take gives who has a command waiting, in no order, and forgets them; or why the watch ended.
func (w *Watch) Take() ([]roster.Key, error) {
	w.board.mu.Lock()
	defer w.board.mu.Unlock()
	if w.end != nil {
		return nil, w.end
	}
	taken := make([]roster.Key, 0, len(w.waiting))
	for key := range w.waiting {
		taken = append(taken, key)
	}
	clear(w.waiting)
	return taken, nil
}

// Leave ends the watch.
func (w *Watch) Leave() {
	w.board.mu.Lock()
	defer w.board.mu.Unlock()
	delete(w.board.watches, w)
}

// add keeps I1 and I3. The board's mu is held.
func (w *Watch) add(consumer roster.Key) {
	if w.end != nil {
		return
	}
	w.waiting[consumer] = struct{}{}
	if len(w.waiting) > w.board.limits.Entries {
		w.finish(fault.New(fault.Overloaded, "commands of more than %d consumers wait for this gateway to take them; the watch has ended and nothing was lost: watch again, and read faster", w.board.limits.Entries).With("retry_after_ms", "1000"))
		return
	}
	w.wake()
}

func (w *Watch) finish(why error) {
	w.end, w.waiting = why, nil
	w.wake()
}

func (w *Watch) wake() {
	select {
	case w.More <- struct{}{}:
	default: // a token is there
	}
}

func stopping() error {
	return fault.New(fault.Unavailable, "consumer-state is stopping; commands are kept: watch again")
}
