package sequencer

import "sync"

// maxEpochs bounds how many producers' epochs are kept in memory; the catalogue has them all.
const maxEpochs = 64 << 10

// epochs remembers the newest epoch of producers that were seen lately. The zero value is empty. Safe for concurrent use.
type epochs struct {
	mu sync.RWMutex // protects by
	by map[string]uint64
}

// newest gives the newest epoch, 0 when it is not in memory.
func (e *epochs) newest(id string) uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.by[id]
}

// note keeps an epoch unless a newer one is known.
func (e *epochs) note(id string, epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string]uint64{}
	}
	if _, known := e.by[id]; !known && len(e.by) >= maxEpochs {
		for some := range e.by { // any: it is looked up again when it comes back
			delete(e.by, some)
			break
		}
	}
	e.by[id] = max(e.by[id], epoch)
}
