package sdktest

import (
	"maps"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"google.golang.org/protobuf/proto"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
)

// faults are what was asked for and has not happened yet. Protected by the provider's mutex.
type faults struct {
	gap               int
	corrupt           [parts]int
	slow              time.Duration
	wrongDigests      int
	withholdDigests   bool
	bootstrapLosesRow bool
	bootstrapStops    bool
	refuseSnapshots   int
	stopsAfter        int // chunks; 0 for never
	publishes         []publishFault
}

type publishFault struct {
	reason  fault.Reason
	written bool
}

func (p *Provider) fault(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
}

// Gap makes the next n batches be skipped by subscriptions. Ranges still have them.
func (p *Provider) Gap(n int) { p.fault(func(f *faults) { f.gap = n }) }

// Part is what Corrupt damages.
type Part int

const (
	// Batches of subscriptions and ranges.
	Batches Part = iota
	// Chunks of snapshots.
	Chunks
	// Packets of changes and of rows that are repaired.
	Packets
	parts
)

// Corrupt flips a bit in each of the next n deliveries of one part.
func (p *Provider) Corrupt(what Part, n int) { p.fault(func(f *faults) { f.corrupt[what] = n }) }

// longestSlow bounds Slow: a subscription that says nothing for longer counts as dead.
const longestSlow = 10 * time.Second

// Slow lets at least so long pass between the deliveries of each stream of answers, 10 s at most; 0 ends it.
func (p *Provider) Slow(between time.Duration) {
	p.fault(func(f *faults) { f.slow = min(between, longestSlow) })
}

// WrongDigests makes the next n digests beside batches be those of another state.
func (p *Provider) WrongDigests(n int) { p.fault(func(f *faults) { f.wrongDigests = n }) }

// WithholdDigests keeps digests away from batches, so that they come with heartbeats only.
func (p *Provider) WithholdDigests(withhold bool) {
	p.fault(func(f *faults) { f.withholdDigests = withhold })
}

// BootstrapLosesRow makes the next snapshot leave out a row, without a sign of it but the digest.
func (p *Provider) BootstrapLosesRow() { p.fault(func(f *faults) { f.bootstrapLosesRow = true }) }

// BootstrapStops makes requests for chunks stall before their end until it is called with false.
func (p *Provider) BootstrapStops(stops bool) {
	p.fault(func(f *faults) { f.bootstrapStops = stops })
}

// BootstrapStopsAfter makes requests for chunks stall when n more chunks were sent, until it is called with 0.
func (p *Provider) BootstrapStopsAfter(n int) {
	p.fault(func(f *faults) { f.stopsAfter = n })
}

// RefuseSnapshots makes the next n requests for a snapshot be answered with fault.Overloaded, to be tried again after a millisecond.
func (p *Provider) RefuseSnapshots(n int) { p.fault(func(f *faults) { f.refuseSnapshots = n }) }

// ForgetSnapshots removes the snapshots that are kept: whoever names one is answered with fault.SnapshotGone.
func (p *Provider) ForgetSnapshots() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		for _, l := range s.lanes {
			l.snapshots = nil
		}
	}
}

// FailPublish makes the next publish request be answered with the reason. written says whether its records are stored all the same, as
// behind fault.UnknownOutcome they may be. Calls queue up.
func (p *Provider) FailPublish(reason fault.Reason, written bool) {
	p.fault(func(f *faults) { f.publishes = append(f.publishes, publishFault{reason, written}) })
}

// Heartbeat sends every subscription a status with tail and digest now.
func (p *Provider) Heartbeat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		for _, l := range s.lanes {
			l.beat()
		}
	}
}

// Disconnect ends every consumer's connection.
func (p *Provider) Disconnect() {
	p.mu.Lock()
	conns := make([]interface{ Close() error }, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // it never fails
	}
}

// Expire removes the records below head from a partition's log, as retention does. The state stays.
func (p *Provider) Expire(name string, partition uint32, head uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.lane(name, partition)
	if err != nil {
		return err
	}
	if lane.Sequence(head) > l.tail+1 {
		return fault.New(fault.AheadOfTail, "the tail is %d", l.tail)
	}
	l.head = max(l.head, lane.Sequence(head))
	for len(l.batches) > 0 && l.batches[0].last < l.head {
		l.batches = l.batches[1:]
	}
	return nil
}

// ForgetDeletions makes deletions up to a sequence unknown, as when tombstones were collected: changes since an older one are refused.
func (p *Provider) ForgetDeletions(name string, partition uint32, floor uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.lane(name, partition)
	if err != nil {
		return err
	}
	l.floor = min(l.tail, lane.Sequence(floor))
	maps.DeleteFunc(l.dead, func(_ string, at lane.Sequence) bool { return at <= l.floor })
	return nil
}

// Command gives a consumer a command: to its subscriptions, and to every new one until it has reported an end, as gateways do. Giving it
// again sends it again.
func (p *Provider) Command(stream, consumerID string, reset *deliveryv1.Reset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.consumers[stream+"/"+consumerID]
	if c == nil {
		return fault.New(fault.UnknownConsumer, "there is no consumer %q of stream %q", consumerID, stream)
	}
	if _, known := c.commands[reset.GetCommandId()]; !known {
		c.commands[reset.GetCommandId()] = reset
	}
	for _, l := range p.streams[stream].lanes {
		for f := range l.followers {
			if f.consumer == stream+"/"+consumerID {
				f.resets = append(f.resets, reset)
				f.out.Wake()
			}
		}
	}
	return nil
}

// Resets gives what a consumer has last reported of commands, oldest first.
func (p *Provider) Resets(stream, consumerID string) []*consumerv1.ResetProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.consumers[stream+"/"+consumerID]; c != nil {
		return c.health.GetResets()
	}
	return nil
}

// RotateEpoch forgets the records behind tail, as a restore from an older copy does: the lane begins a new epoch.
func (p *Provider) RotateEpoch(name string, partition uint32, tail uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.lane(name, partition)
	if err != nil {
		return err
	}
	old := l.records()
	cut := newLaneLog(l.id, l.seed, l.keyed)
	l.epoch++
	l.batches, l.tail, l.head, l.state, l.dead, l.floor, l.set, l.chain = nil, 0, 1, cut.state, cut.dead, 0, cut.set, batch.Chain{}
	if n := min(int(tail), len(old)); n > 0 {
		l.append(old[:n])
	}
	for f := range l.followers {
		f.out.Fail(refusal(fault.New(fault.EpochMismatch, "the lane is in epoch %d", l.epoch).With("epoch", text(uint64(l.epoch)))))
	}
	return nil
}

// wrong gives the mark of a state with one row more.
func wrong(m *streamv1.DigestMark) *streamv1.DigestMark {
	w := proto.CloneOf(m)
	sum, _ := digest.ParseSum(m.GetSum())
	sum.Lo++
	w.Sum = sum.Append(nil)
	return w
}
