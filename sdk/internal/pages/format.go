package pages

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

const (
	// pageBytes is SQLite's default.
	pageBytes = 4096
	// lockByte is where SQLite's locks lie: its page is never used.
	lockByte = 1 << 30

	// TableRoot and IndexRoot are the roots of the two trees.
	TableRoot = 2
	IndexRoot = 3

	headerBytes = 100
	// sqliteVersion is written into the header as the library that wrote last.
	sqliteVersion = 3_054_001
)

// Kinds of pages.
const (
	indexInterior byte = 0x02
	tableInterior byte = 0x05
	indexLeaf     byte = 0x0a
	tableLeaf     byte = 0x0d
)

// Most and least bytes of a payload that stay in a cell when it does not fit; the rest goes to overflow pages.
const (
	maxLocalTable = pageBytes - 35
	maxLocalIndex = (pageBytes-12)*64/255 - 23
	minLocal      = (pageBytes-12)*32/255 - 23
)

// localBytes is how much of a payload of n bytes lies in its cell.
func localBytes(n, maxLocal int) int {
	if n <= maxLocal {
		return n
	}
	if k := minLocal + (n-minLocal)%(pageBytes-4); k <= maxLocal {
		return k
	}
	return minLocal
}

// Serial types: the integers in between are -128..127 in 1 byte and so on.
const (
	typeNull = 0
	typeZero = 8
	typeOne  = 9
	typeBlob = 12
	typeText = 13
)

// isText says how a value is stored (I3).
func isText(value []byte) bool { return bytes.IndexByte(value, 0) < 0 && utf8.Valid(value) }

func valueType(value []byte) uint64 {
	if isText(value) {
		return textType(value)
	}
	return uint64(len(value))*2 + typeBlob
}

func textType(text []byte) uint64 { return uint64(len(text))*2 + typeText }

// headersType is NULL for none.
func headersType(headers []byte) uint64 {
	if len(headers) == 0 {
		return typeNull
	}
	return textType(headers)
}

// intType gives the serial type of v and how many bytes it takes.
func intType(v int64) (serial uint64, size int) {
	switch {
	case v == 0:
		return typeZero, 0
	case v == 1:
		return typeOne, 0
	case v == int64(int8(v)):
		return 1, 1
	case v == int64(int16(v)):
		return 2, 2
	case v >= -1<<23 && v < 1<<23:
		return 3, 3
	case v == int64(int32(v)):
		return 4, 4
	case v >= -1<<47 && v < 1<<47:
		return 5, 6
	}
	return 6, 8
}

// intBytes is the size of the integer with a serial type; -1 for a type that is no integer.
func intBytes(serial uint64) int {
	switch serial {
	case typeZero, typeOne:
		return 0
	case 1, 2, 3, 4:
		return int(serial)
	case 5:
		return 6
	case 6:
		return 8
	}
	return -1
}

// appendInt appends the low size bytes of v, big endian.
func appendInt(b []byte, v int64, size int) []byte {
	for i := size - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// readInt reads an integer with a serial type from exactly its bytes.
func readInt(serial uint64, b []byte) int64 {
	if serial == typeOne {
		return 1
	}
	var v int64
	for i, c := range b {
		if i == 0 {
			v = int64(int8(c))
			continue
		}
		v = v<<8 | int64(c)
	}
	return v
}

// appendVarint appends SQLite's form of v: 7 bits a byte, big endian, 8 bits in the ninth.
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<7:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v>>7)|0x80, byte(v&0x7f))
	case v >= 1<<56:
		for shift := 57; shift >= 8; shift -= 7 {
			b = append(b, byte(v>>shift)|0x80)
		}
		return append(b, byte(v))
	}
	shift := 14
	for v>>(shift+7) != 0 {
		shift += 7
	}
	for ; shift > 0; shift -= 7 {
		b = append(b, byte(v>>shift)|0x80)
	}
	return append(b, byte(v&0x7f))
}

// varint reads one; n is 0 when b ends too soon.
func varint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

var be = binary.BigEndian
