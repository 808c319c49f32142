package grants

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// digest is a token as it is kept (I2).
type digest [sha256.Size]byte

// page is what a file says. It does not change.
type page map[digest][]grant

// grant gives rights to the streams of a pattern.
type grant struct {
	prefix string
	open   bool // the pattern ended in *
	rights Right
}

func (g grant) covers(stream lane.StreamName) bool {
	return g.prefix == string(stream) || g.open && strings.HasPrefix(string(stream), g.prefix)
}

// parse reads the text of a tokens file.
func parse(data []byte) (page, error) {
	p := make(page)
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxFileBytes+1)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		key, more, err := parseLine(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		p[key] = append(p[key], more...)
	}
	return p, lines.Err()
}

func parseLine(fields []string) (key digest, given []grant, err error) {
	if len(fields) != 2 && len(fields) != 3 {
		return key, nil, fmt.Errorf("want a token, a list of streams and perhaps a list of rights, got %d words", len(fields))
	}
	key = sha256.Sum256([]byte(fields[0]))
	if digits, ok := strings.CutPrefix(fields[0], "sha256:"); ok {
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != len(key) {
			return key, nil, errors.New("sha256: wants 64 hexadecimal digits")
		}
		copy(key[:], raw)
	}
	rights := Read
	if len(fields) == 3 {
		rights = 0
		for word := range strings.SplitSeq(fields[2], ",") {
			r, err := parseRight(word)
			if err != nil {
				return key, nil, err
			}
			rights |= r
		}
	}
	for pattern := range strings.SplitSeq(fields[1], ",") {
		prefix, open := strings.CutSuffix(pattern, "*")
		if prefix != "" || !open {
			if err := lane.CheckName("stream", prefix); err != nil {
				return key, nil, errors.New("the second word is not a list of stream names and patterns") // what it is may be a token (I2)
			}
		}
		given = append(given, grant{prefix, open, rights})
	}
	return key, given, nil
}
