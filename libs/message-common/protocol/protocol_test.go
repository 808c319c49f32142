package protocol_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
)

func TestNegotiate(t *testing.T) {
	mine := protocol.Version{Major: 2, Minor: 3}
	for _, c := range []struct{ other, want protocol.Version }{
		{protocol.Version{Major: 2, Minor: 3}, protocol.Version{Major: 2, Minor: 3}},
		{protocol.Version{Major: 2, Minor: 0}, protocol.Version{Major: 2, Minor: 0}},
		{protocol.Version{Major: 2, Minor: 9}, protocol.Version{Major: 2, Minor: 3}},
	} {
		if got, err := protocol.Negotiate(mine, c.other, "the gateway"); err != nil || got != c.want {
			t.Errorf("%v: got %v, %v", c.other, got, err)
		}
	}
	_, err := protocol.Negotiate(mine, protocol.Version{Major: 1, Minor: 7}, "the gateway")
	if !errors.Is(err, fault.UnsupportedVersion) || !strings.Contains(err.Error(), "1.7") || !strings.Contains(err.Error(), "2.3") {
		t.Errorf("got %v", err)
	}
}
