package subscription

// unboundedCredit is what clients ask for that want no flow control of their own.
const unboundedCredit = 1<<31 - 1

// minChargeBytes is what the smallest delivery costs, so that the list of sizes stays short.
const minChargeBytes = 256

// window counts the bytes under way. Its owner locks.
type window struct {
	maxBytes, usedBytes int64
	unbounded           bool
	sizes               []uint32 // of deliveries under way, oldest first from start on
	start               int
}

// open reports whether another delivery may be sent.
func (w *window) open() bool {
	return w.unbounded || w.usedBytes < w.maxBytes
}

func (w *window) took(bytes int) {
	if w.unbounded {
		return
	}
	n := uint32(max(bytes, minChargeBytes))
	w.sizes = append(w.sizes, n)
	w.usedBytes += int64(n)
}

// gaveBack takes the credit of n deliveries back. Credit beyond what is under way widens the credit, not the window.
func (w *window) gaveBack(n uint32) {
	if n >= unboundedCredit {
		w.unbounded, w.sizes, w.start, w.usedBytes = true, nil, 0, 0
		return
	}
	for ; n > 0 && w.start < len(w.sizes); n-- {
		w.usedBytes -= int64(w.sizes[w.start])
		w.start++
	}
	if w.start == len(w.sizes) {
		w.sizes, w.start = w.sizes[:0], 0
	} else if w.start > 64 && w.start > len(w.sizes)/2 {
		w.sizes, w.start = w.sizes[:copy(w.sizes, w.sizes[w.start:])], 0
	}
}
