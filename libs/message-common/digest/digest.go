// Package digest proves that two states are equal.
//
// A state is a set of rows, one per live key. Its digest is the sum modulo 2^128 of a keyed hash of each row, and the number of
// rows. Adding and removing a row is O(1) and order does not matter, so provider and replica keep it current record by record, and
// either can compute it anew from its rows at any time.
//
//	row ──▶ Hasher.Row ──▶ Element ──▶ Set.Add / Set.Remove ──▶ Set{Sum, Count} == Set{Sum, Count}
//
// Invariants:
//
//	I1  every byte a replica stores of a row takes part: key, sequence, time, headers, value; no two different rows share an input.
//	I2  the same rows give the same Set in whatever order they came.
//
// The hash is XXH3-128 with the stream's 64-bit seed. It finds accidents (lost, stale, repeated, flipped), not an attacker who knows
// the seed: who may write to a replica's file can also write its digest.
package digest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Bytes is the length of an encoded Sum or Element.
const Bytes = 16

// Element is the hash of one row.
type Element struct{ Hi, Lo uint64 }

// Sum is the sum of elements modulo 2^128.
type Sum struct{ Hi, Lo uint64 }

// Set is the digest of a state: its sum and how many rows it has. The zero Set is the empty state.
type Set struct {
	Sum   Sum
	Count uint64
}

// Add takes a row into the set.
func (s *Set) Add(e Element) {
	var carry uint64
	s.Sum.Lo, carry = bits.Add64(s.Sum.Lo, e.Lo, 0)
	s.Sum.Hi, _ = bits.Add64(s.Sum.Hi, e.Hi, carry)
	s.Count++
}

// Remove takes a row out of the set. Removing a row that is not in it makes a Set that equals no state.
func (s *Set) Remove(e Element) {
	var borrow uint64
	s.Sum.Lo, borrow = bits.Sub64(s.Sum.Lo, e.Lo, 0)
	s.Sum.Hi, _ = bits.Sub64(s.Sum.Hi, e.Hi, borrow)
	s.Count--
}

// Merge adds all rows of another, disjoint set.
func (s *Set) Merge(o Set) {
	var carry uint64
	s.Sum.Lo, carry = bits.Add64(s.Sum.Lo, o.Sum.Lo, 0)
	s.Sum.Hi, _ = bits.Add64(s.Sum.Hi, o.Sum.Hi, carry)
	s.Count += o.Count
}

// String gives the sum in hexadecimal and the count.
func (s Set) String() string { return fmt.Sprintf("%s/%d", s.Sum, s.Count) }

// String gives 32 hexadecimal digits.
func (s Sum) String() string { return hex.EncodeToString(s.Append(nil)) }

// Append appends the 16 bytes of the sum, big endian.
func (s Sum) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.Hi)
	return binary.BigEndian.AppendUint64(b, s.Lo)
}

// ParseSum reads what Append wrote; ok is false unless b has exactly Bytes bytes.
func ParseSum(b []byte) (s Sum, ok bool) {
	if len(b) != Bytes {
		return Sum{}, false
	}
	return Sum{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:])}, true
}

// Append appends the 16 bytes of the element, big endian.
func (e Element) Append(b []byte) []byte { return Sum(e).Append(b) }

// ParseElement reads what Append wrote; ok is false unless b has exactly Bytes bytes.
func ParseElement(b []byte) (Element, bool) {
	s, ok := ParseSum(b)
	return Element(s), ok
}

// Hasher hashes rows under one seed. It keeps a buffer, so one goroutine at a time; the zero Hasher has seed 0.
type Hasher struct {
	seed    uint64
	scratch []byte
}

// NewHasher makes a Hasher for the stream with the given digest seed.
func NewHasher(seed uint64) *Hasher { return &Hasher{seed: seed} }

// Row hashes one row. sequence and timeMS are the record's; headers is its canonical JSON or empty. The slices are only read.
func (h *Hasher) Row(key []byte, sequence uint64, timeMS int64, headers, value []byte) Element {
	b := h.scratch[:0]
	b = binary.BigEndian.AppendUint64(b, sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(timeMS))
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	b = append(b, key...)
	b = append(b, headers...)
	b = append(b, value...)
	h.scratch = b
	sum := xxh3.Hash128Seed(b, h.seed)
	return Element{Hi: sum.Hi, Lo: sum.Lo}
}
