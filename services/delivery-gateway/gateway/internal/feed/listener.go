package feed

// Listener is one who waits at the tail of a lane. Wake must not block and may come more often than needed.
type Listener struct {
	Wake func()
	// Fresh: it had no status yet, and wants one that is of this moment. Changed only between calls of At.
	Fresh bool

	place int // 1 + index among the feed's waiting, 0 when not waiting; protected by Feed.mu
}

// waiting is a set of listeners without allocation per step.
type waiting struct{ listeners []*Listener }

func (w *waiting) add(l *Listener) {
	if l.place == 0 {
		w.listeners = append(w.listeners, l)
		l.place = len(w.listeners)
	}
}

func (w *waiting) remove(l *Listener) {
	if l.place == 0 {
		return
	}
	last := len(w.listeners) - 1
	moved := w.listeners[last]
	w.listeners[l.place-1], moved.place = moved, l.place
	w.listeners[last] = nil
	w.listeners = w.listeners[:last]
	l.place = 0
}

// take empties the set into the caller's memory.
func (w *waiting) take(into []*Listener) []*Listener {
	into = append(into[:0], w.listeners...)
	for i, l := range w.listeners {
		l.place = 0
		w.listeners[i] = nil
	}
	w.listeners = w.listeners[:0]
	return into
}
