package rsocket

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffers of 1 KiB to 64 KiB are shared between connections by power of two; they are held only
// while bytes move.
const (
	bufferMinBits = 10
	bufferMaxBits = 16
)

var bufferPools [bufferMaxBits - bufferMinBits + 1]sync.Pool

func bufferClass(n int) int { return max(bits.Len(uint(max(n, 1)-1)), bufferMinBits) - bufferMinBits }

// takeBuffer returns a buffer of at least n bytes.
func takeBuffer(n int) []byte {
	class := bufferClass(n)
	if class >= len(bufferPools) {
		return make([]byte, n)
	}
	if b, ok := bufferPools[class].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 1<<(class+bufferMinBits))
}

// giveBuffer returns a buffer got from takeBuffer; another size is left to the collector.
func giveBuffer(b []byte) {
	class := bufferClass(len(b))
	if class < len(bufferPools) && len(b) == 1<<(class+bufferMinBits) {
		bufferPools[class].Put(&b)
	}
}

// budget is a number of bytes shared by the connections of a server. A nil budget is endless.
type budget struct{ left atomic.Int64 }

func newBudget(bytes int64) *budget {
	b := &budget{}
	b.left.Store(bytes)
	return b
}

func (b *budget) take(n int) bool {
	if b == nil {
		return true
	}
	if b.left.Add(-int64(n)) < 0 {
		b.left.Add(int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) {
	if b != nil {
		b.left.Add(int64(n))
	}
}
