package materialiser

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
