// Package grants says which streams a bearer token may read (S12).
//
// A tokens file has one grant a line; empty lines and lines that begin with # are passed over:
//
//	<token> <stream>[,<stream>...]
//
// A stream is a name, a name that ends in * (any rest), or * alone. A token may be given as sha256:<64 hexadecimal digits> of itself,
// so that the file does not hold it. The file is read once, at the start.
//
// Invariants:
//
//	I1  without a file everybody may read everything; with one, nobody without a listed token gets past SETUP.
//	I2  tokens are kept and compared as SHA-256 only, and never appear in an error.
package grants

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const maxFileBytes = 4 << 20

// Book is all grants. nil is the open house of I1.
type Book struct {
	grants map[[sha256.Size]byte]*Grant
}

// Grant is what one token may read. nil may read everything.
type Grant struct{ patterns []string }

// Load reads a tokens file; "" gives nil.
func Load(path string) (*Book, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("tokens file %s is larger than %d bytes", path, maxFileBytes)
	}
	b, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("tokens file %s: %w", path, err)
	}
	return b, nil
}

// Parse reads the text of a tokens file.
func Parse(data []byte) (*Book, error) {
	b := &Book{grants: make(map[[sha256.Size]byte]*Grant)}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxFileBytes)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d: want a token and a list of streams, got %d words", n, len(fields))
		}
		key := sha256.Sum256([]byte(fields[0]))
		if digits, ok := strings.CutPrefix(fields[0], "sha256:"); ok {
			raw, err := hex.DecodeString(digits)
			if err != nil || len(raw) != len(key) {
				return nil, fmt.Errorf("line %d: sha256: wants 64 hexadecimal digits", n)
			}
			copy(key[:], raw)
		}
		g := b.grants[key]
		if g == nil {
			g = &Grant{}
			b.grants[key] = g
		}
		for p := range strings.SplitSeq(fields[1], ",") {
			if name := strings.TrimSuffix(p, "*"); name != "" || p == "" {
				if err := lane.CheckName("stream", name); err != nil {
					return nil, fmt.Errorf("line %d: %w", n, err)
				}
			}
			g.patterns = append(g.patterns, p)
		}
	}
	return b, lines.Err()
}

// Of gives the grant of a token. A nil Book grants everything.
func (b *Book) Of(token string) (*Grant, error) {
	if b == nil {
		return nil, nil
	}
	if token == "" {
		return nil, fault.New(fault.Unauthenticated, "this gateway asks for a bearer token in SETUP, and there was none")
	}
	g := b.grants[sha256.Sum256([]byte(token))]
	if g == nil {
		return nil, fault.New(fault.Unauthenticated, "the bearer token in SETUP is not known here")
	}
	return g, nil
}

// Check refuses a stream that was not granted.
func (g *Grant) Check(stream lane.StreamName) error {
	if g == nil {
		return nil
	}
	for _, p := range g.patterns {
		prefix, open := strings.CutSuffix(p, "*")
		if p == string(stream) || open && strings.HasPrefix(string(stream), prefix) {
			return nil
		}
	}
	return fault.New(fault.NotPermitted, "your token does not grant stream %q: ask for a grant", stream)
}
