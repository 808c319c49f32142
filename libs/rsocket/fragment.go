package rsocket

import "github.com/rsocket/rsocket-go/core"

// assembly is a payload that arrives in fragments.
type assembly struct {
	metadata    []byte
	data        []byte
	hasMetadata bool
	size        int // counted against the connection and the server's budget
}

// assemble adds a fragment, or says false when the bound of the connection or the server's budget
// is reached. It runs on the reader.
func (c *Conn) assemble(a *assembly, f *inFrame) bool {
	n := len(f.metadata) + len(f.data)
	if c.assemblingSize+n > c.limits.MaxFrameBytes || !c.env.budget.take(n) {
		return false
	}
	c.assemblingSize += n
	a.size += n
	a.metadata = append(a.metadata, f.metadata...)
	a.data = append(a.data, f.data...)
	a.hasMetadata = a.hasMetadata || f.hasMetadata
	return true
}

// disassemble gives the bytes back: the payload is whole, or is given up.
func (c *Conn) disassemble(a *assembly) {
	c.assemblingSize -= a.size
	c.env.budget.give(a.size)
	a.size = 0
}

func (a *assembly) payload() Payload {
	p := Payload{Metadata: a.metadata, Data: a.data}
	if a.hasMetadata && p.Metadata == nil {
		p.Metadata = []byte{}
	}
	return p
}

// partial is a request of the peer whose last fragment has not come.
type partial struct {
	conn   *Conn
	id     uint32
	typ    core.FrameType
	credit uint32
	parts  assembly
}

func (c *Conn) startPartial(f *inFrame) {
	p := &partial{conn: c, id: f.id, typ: f.typ, credit: f.word}
	if c.partials >= c.limits.MaxStreams {
		c.reject(f.id, CodeRejected, "too many unfinished requests")
		return
	}
	if !c.assemble(&p.parts, f) {
		c.reject(f.id, CodeRejected, "fragments larger than this side accepts")
		return
	}
	c.partials++
	c.mu.Lock()
	c.putLocked(f.id, p)
	c.mu.Unlock()
}

// remove takes the partial off the table. It runs on the reader.
func (p *partial) remove() {
	c := p.conn
	c.partials--
	c.disassemble(&p.parts)
	c.mu.Lock()
	c.removeLocked(p.id)
	c.mu.Unlock()
}

func (p *partial) onPayload(f *inFrame, _ bool) {
	c := p.conn
	if !c.assemble(&p.parts, f) {
		p.remove()
		c.reject(p.id, CodeRejected, "fragments larger than this side accepts")
		return
	}
	if !f.has(core.FlagFollow) {
		p.remove()
		c.open(p.id, p.typ, p.credit, p.parts.payload())
	}
}

// onRequestN: credit may come before the last fragment.
func (p *partial) onRequestN(n uint32) {
	if p.typ == core.FrameTypeRequestStream && n <= maxCredit {
		p.credit = min(p.credit+n, maxCredit)
	}
}

func (p *partial) onCancel()      { p.remove() }
func (p *partial) onError(*Error) { p.remove() }
func (p *partial) onEnd(error)    { p.conn.disassemble(&p.parts) }
