package rsocket

import "sync/atomic"

// counters are shared by the connections of a server.
type counters struct {
	accepted, refused, open                atomic.Int64
	streams, requests, rejected            atomic.Int64
	framesIn, framesOut, bytesIn, bytesOut atomic.Int64
	timeouts, panics, ignored              atomic.Int64
}

// Stats is a reading of a server's counters; each field is exact, the fields are not of one instant.
type Stats struct {
	Connections    int64 // open now, SETUP accepted or not
	Streams        int64 // request-streams of peers open now
	Accepted       int64 // connections accepted from listeners, those over the cap excluded
	Refused        int64 // connections refused: over the cap, bad or late SETUP, by the Acceptor
	Requests       int64 // requests received, of every kind
	Rejected       int64 // requests refused by the engine: over a cap, draining, unsupported
	FramesIn       int64
	FramesOut      int64
	BytesIn        int64 // frames with their length prefix; not TLS or WebSocket framing
	BytesOut       int64
	Timeouts       int64 // connections ended because the peer was silent or did not read
	Panics         int64 // handler panics recovered
	Ignored        int64 // frames dropped as the protocol allows: METADATA_PUSH, LEASE, unknown with the ignore flag
	InboundBudget  int64 // bytes of InboundBudgetBytes free now
	AcceptFailures int64 // temporary failures of listeners, retried
}

// Stats reads the server's counters.
func (s *Server) Stats() Stats {
	n := &s.env.count
	return Stats{
		Connections: n.open.Load(), Streams: n.streams.Load(), Accepted: n.accepted.Load(), Refused: n.refused.Load(),
		Requests: n.requests.Load(), Rejected: n.rejected.Load(), FramesIn: n.framesIn.Load(), FramesOut: n.framesOut.Load(),
		BytesIn: n.bytesIn.Load(), BytesOut: n.bytesOut.Load(), Timeouts: n.timeouts.Load(), Panics: n.panics.Load(),
		Ignored: n.ignored.Load(), InboundBudget: s.env.budget.left.Load(), AcceptFailures: s.acceptFailures.Load(),
	}
}
