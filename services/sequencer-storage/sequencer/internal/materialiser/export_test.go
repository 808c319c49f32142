package materialiser

import "time"

// SettleHanded applies what was handed over, as Run does, and leaves the window as it is.
func (m *Materialiser) SettleHanded() error {
	for {
		if more, err := m.turn(); err != nil || !more {
			return err
		}
	}
}

// Idle waits until no window is being written.
func (m *Materialiser) Idle() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.written()
}

// Collect lets go of all tombstones that are due.
func (m *Materialiser) Collect() error {
	m.collected = time.Time{}
	for {
		if more, err := m.collect(); err != nil || !more {
			return err
		}
	}
}
