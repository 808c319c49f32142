package reader

import (
	"strconv"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// decimal writes a sequence for a fault's detail.
func decimal(s lane.Sequence) string { return strconv.FormatUint(uint64(s), 10) }
