package bench

import (
	"math/rand/v2"
	"sync"
)

const noiseBytes = 64 << 20

// noise is the same random bytes in every run. Records' values are cut from it: they cannot be compressed, which is the hard case,
// and cost their producers nothing, whoever they publish to.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, noiseBytes)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
})

// values cuts values from the noise, one behind the other, beginning elsewhere for each producer.
type values struct{ at int }

func newValues(producer int) *values { return &values{at: producer * (noiseBytes / 16) % noiseBytes} }

// next is valid for good and must not be changed.
func (v *values) next(n int) []byte {
	if v.at+n > noiseBytes {
		v.at = 0
	}
	v.at += n
	return noise()[v.at-n : v.at : v.at]
}
