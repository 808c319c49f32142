package lane

import (
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	// MaxNameBytes bounds the names of streams, consumers and producers.
	MaxNameBytes = 128
	// MaxPartitions bounds the lanes of one stream.
	MaxPartitions = 1024
)

// CheckName returns a fault with reason fault.InvalidName unless name is 1 to MaxNameBytes of a-z, A-Z, 0-9, '.', '_' and '-',
// beginning with a letter or digit. what names the thing in the message: "stream", "consumer".
func CheckName(what, name string) error {
	const rule = "use 1 to 128 of a-z, A-Z, 0-9, '.', '_', '-', beginning with a letter or digit"
	if name == "" {
		return fault.New(fault.InvalidName, "the %s has no name: %s", what, rule)
	}
	if len(name) > MaxNameBytes {
		return fault.New(fault.InvalidName, "the %s name is %d bytes long: %s", what, len(name), rule)
	}
	for i := range len(name) {
		c := name[i]
		letterOrDigit := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if letterOrDigit || i > 0 && (c == '.' || c == '_' || c == '-') {
			continue
		}
		return fault.New(fault.InvalidName, "%s name %s has a character that is not allowed at byte %d: %s", what, fmt.Sprintf("%.60q", name), i, rule)
	}
	return nil
}
