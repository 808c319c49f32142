package sdktest

import (
	"sync"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// windowBytes is what a gateway has under way to whoever asks for no other window.
const windowBytes = 4 << 20

// windowed bounds the bytes under way, as gateways do: a delivery's bytes come back with its credit.
type windowed struct {
	rsocket.Source
	out      *rsocket.Outbound
	maxBytes int

	mu    sync.Mutex // protects what follows
	used  int
	sizes []int // of deliveries under way, oldest first
}

func bounded(s rsocket.Source, out *rsocket.Outbound, maxBytes uint64) *windowed {
	if maxBytes == 0 {
		maxBytes = windowBytes
	}
	return &windowed{Source: s, out: out, maxBytes: int(maxBytes)}
}

// Next waits while the window is shut.
func (w *windowed) Next() (rsocket.Payload, rsocket.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used >= w.maxBytes {
		return rsocket.Payload{}, rsocket.Wait
	}
	p, signal := w.Source.Next()
	if size := len(p.Metadata) + len(p.Data); size > 0 {
		w.sizes = append(w.sizes, size)
		w.used += size
	}
	return p, signal
}

// Requested takes the bytes of the oldest n deliveries back.
func (w *windowed) Requested(n uint32) {
	w.mu.Lock()
	for ; n > 0 && len(w.sizes) > 0; n-- {
		w.used -= w.sizes[0]
		w.sizes = w.sizes[1:]
	}
	w.mu.Unlock()
	w.out.Wake()
}
