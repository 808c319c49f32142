package sketch

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// A block is consecutive symbols on the wire:
//
//	block  := elements first symbol*
//	symbol := id (8, big endian) check (4, big endian) count
//
// elements (of the set) and first (number of the first symbol) are uvarints. count is a varint: how far the symbol's count is from
// what is expected of a set of so many elements, which is a small number.

// minSymbolBytes is the least a symbol takes.
const minSymbolBytes = 8 + 4 + 1

// AppendBlock appends the symbols, the first of which has number first, of a set of elements elements.
func AppendBlock(b []byte, elements, first int, symbols []Symbol) []byte {
	b = binary.AppendUvarint(b, uint64(elements))
	b = binary.AppendUvarint(b, uint64(first))
	for i, s := range symbols {
		b = binary.BigEndian.AppendUint64(b, uint64(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Check)
		b = binary.AppendVarint(b, s.Count-expected(uint64(elements), uint64(first+i)))
	}
	return b
}

// Block is a parsed block.
type Block struct {
	Elements uint64
	First    uint64
	Symbols  []Symbol
}

// ParseBlock reads what AppendBlock wrote. Fault: Malformed.
func ParseBlock(b []byte) (Block, error) {
	var block Block
	for _, field := range []*uint64{&block.Elements, &block.First} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<48 {
			return Block{}, fault.New(fault.Malformed, "a block of symbols has a bad header")
		}
		*field, b = v, b[n:]
	}
	block.Symbols = make([]Symbol, 0, len(b)/minSymbolBytes)
	for len(b) > 0 {
		if len(b) < minSymbolBytes {
			return Block{}, fault.New(fault.Malformed, "a block of symbols ends in the middle of one")
		}
		s := Symbol{ID: ID(binary.BigEndian.Uint64(b)), Check: binary.BigEndian.Uint32(b[8:])}
		off, n := binary.Varint(b[12:])
		if n <= 0 {
			return Block{}, fault.New(fault.Malformed, "a symbol has a bad count")
		}
		s.Count = off + expected(block.Elements, block.First+uint64(len(block.Symbols)))
		block.Symbols = append(block.Symbols, s)
		b = b[12+n:]
	}
	return block, nil
}

// expected is about how many of elements elements are in symbol number at: all in the first, 1/(1+at/2) of them in others.
func expected(elements, at uint64) int64 { return int64(2 * elements / (2 + at)) }
