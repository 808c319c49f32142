package rsocket

import (
	"net"
	"sync"
)

const (
	// copyBytes: a payload up to this is copied beside its header, a larger one is handed to the
	// kernel where it lies. Below it an entry of a writev costs more than the copy.
	copyBytes = 4 << 10
	// scratchMaxBytes is the most small bytes gathered for one write.
	scratchMaxBytes = 64 << 10
)

// vector is the memory of one write; it goes back to the pool when the write has returned, so an
// idle connection has none.
type vector struct {
	scratch []byte
	from    int         // scratch[from:] is not yet in parts
	parts   net.Buffers // alternately a run of scratch and a payload
	rest    net.Buffers // what WriteTo consumes
}

var vectorPool = sync.Pool{New: func() any { return new(vector) }}

// writeRuns writes frames with as few system calls as their sizes allow: small parts gathered in
// one scratch buffer, large payloads by reference, all of it in one writev.
func writeRuns(conn net.Conn, frames []outFrame) (int64, error) {
	v := vectorPool.Get().(*vector)
	small := 0
	for i := range frames {
		small += int(frames[i].headN)
		if n := len(frames[i].metadata); n <= copyBytes {
			small += n
		}
		if n := len(frames[i].data); n <= copyBytes {
			small += n
		}
	}
	v.scratch = takeBuffer(min(small, scratchMaxBytes))[:0]
	var written int64
	var err error
	for i := range frames {
		f := &frames[i]
		for _, part := range [...][]byte{f.head[:f.headN], f.metadata, f.data} {
			if len(part) == 0 {
				continue
			}
			if len(part) > copyBytes {
				v.seal()
				v.parts = append(v.parts, part)
				continue
			}
			if len(v.scratch)+len(part) > cap(v.scratch) {
				var n int64
				n, err = v.flush(conn)
				written += n
				if err != nil {
					break
				}
			}
			v.scratch = append(v.scratch, part...)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		var n int64
		n, err = v.flush(conn)
		written += n
	}
	giveBuffer(v.scratch[:cap(v.scratch)])
	clear(v.parts[:cap(v.parts)])
	v.scratch, v.parts, v.rest, v.from = nil, v.parts[:0], nil, 0
	vectorPool.Put(v)
	return written, err
}

func (v *vector) seal() {
	if len(v.scratch) > v.from {
		v.parts = append(v.parts, v.scratch[v.from:])
		v.from = len(v.scratch)
	}
}

func (v *vector) flush(conn net.Conn) (int64, error) {
	v.seal()
	var n int64
	var err error
	switch len(v.parts) {
	case 0:
	case 1:
		var k int
		k, err = conn.Write(v.parts[0])
		n = int64(k)
	default:
		v.rest = v.parts
		n, err = v.rest.WriteTo(conn)
	}
	v.scratch, v.from = v.scratch[:0], 0
	clear(v.parts)
	v.parts = v.parts[:0]
	return n, err
}
