package command

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// expiringConsumer needs a resync, or will: what it has to read next is gone in so many seconds.
type expiringConsumer struct {
	Consumer string  `json:"consumer"`
	Seconds  float64 `json:"seconds"`
}

// expiring gives the consumers of a stream that retention has overtaken or will at the present rates, soonest first; never nil without an
// error.
func (c *console) expiring(ctx context.Context, stream string) ([]expiringConsumer, error) {
	consumers, err := c.consumersOf(ctx, stream, "")
	if err != nil {
		return nil, err
	}
	found := []expiringConsumer{}
	for _, one := range consumers {
		if seconds, will := expires(one); will {
			found = append(found, expiringConsumer{one.GetConsumerId(), seconds})
		}
	}
	slices.SortStableFunc(found, func(a, b expiringConsumer) int { return cmp.Compare(a.Seconds, b.Seconds) })
	return found, nil
}

// maxWarnings bounds the lines of a warning.
const maxWarnings = 20

// warn says who will need a resync.
func (c *console) warn(expiring []expiringConsumer) error {
	for i, one := range expiring {
		text := fmt.Sprintf("consumer %s will need a resync in %s at the present rates", one.Consumer, spanWord(one.Seconds))
		if one.Seconds == 0 {
			text = fmt.Sprintf("consumer %s needs a resync: what it has to read next has expired", one.Consumer)
		}
		if i == maxWarnings {
			text = fmt.Sprintf("and %d more; `lockstep consumer list` has them", len(expiring)-maxWarnings)
		}
		if _, err := fmt.Fprintf(c.out, "%s\n", text); err != nil || i == maxWarnings {
			return err
		}
	}
	return nil
}
