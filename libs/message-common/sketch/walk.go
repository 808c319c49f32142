package sketch

import (
	"math"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
)

// ID is what an element is known by: the low half of its digest element.
type ID uint64

// IDOf gives the ID of a row's element.
func IDOf(e digest.Element) ID { return ID(e.Lo) }

// mix spreads an ID's bits (the finaliser of SplitMix64), so that check and walk do not depend on how IDs were made.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func (id ID) check() uint32 { return uint32(mix(uint64(id)^0x6c6f636b73746570) >> 32) }

// walk is the symbols an element is in: 0 first, then ever rarer; the chance of symbol i is 1/(1+i/2).
type walk struct {
	at     uint64
	random uint64
}

func newWalk(id ID) walk { return walk{random: mix(uint64(id) + 0x9e3779b97f4a7c15)} }

// next moves to the next symbol. The float operations are single, exactly rounded ones (the conversions forbid fusing them): I2.
func (w *walk) next() {
	w.random *= 0xda942042e4dd58b5
	jump := float64((1<<32)/math.Sqrt(float64(w.random)+1)) - 1
	step := math.Ceil(float64(float64(w.at)+1.5) * jump)
	if step >= 1<<62 { // beyond any symbol ever made
		w.at = math.MaxUint64 >> 1
		return
	}
	w.at += max(1, uint64(step))
}
