package replica

// Reads says what queries through DB get while a bootstrap replaces a generation.
type Reads int

// What queries get.
const (
	// ServeStale: the old generation, until the new one is in. The default.
	ServeStale Reads = iota
	// BlockReads: queries wait, bounded by their contexts, until the new one is in.
	BlockReads
	// ClearFirst: fault.Unavailable, until the new one is in. The link is taken away at once, so that other programs do not find the old
	// generation either; your own tables are carried over from it all the same.
	ClearFirst
)
