package grants

import (
	"errors"
	"strings"
)

// Right is a set of what may be done with a stream.
type Right uint8

// The rights. They do not include one another.
const (
	// Read: follow, replicate, consume; see who consumes.
	Read Right = 1 << iota
	// Publish: hand in records.
	Publish
	// Manage: create and delete the stream, delete its consumers, tell them to resynchronise.
	Manage
)

var words = []struct {
	right Right
	word  string
}{{Read, "read"}, {Publish, "publish"}, {Manage, "manage"}}

// String names the rights of the set.
func (r Right) String() string {
	var named []string
	for _, w := range words {
		if r&w.right != 0 {
			named = append(named, w.word)
		}
	}
	return strings.Join(named, " or ")
}

func parseRight(word string) (Right, error) {
	for _, w := range words {
		if w.word == word {
			return w.right, nil
		}
	}
	return 0, errors.New("the third word is not a list of rights: there are read, publish and manage") // what it is may be a token (I2)
}
