package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// word is what people call a value of an enumeration; "" for the unspecified.
func word(name, prefix string) string {
	name = strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
	if name == "unspecified" {
		return ""
	}
	return name
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func counts(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// maxNamed bounds the names in one sentence.
const maxNamed = 5

func listed(names []string) string {
	if len(names) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
	}
	return strings.Join(names, ", ")
}

func consumerIDs(consumers []*consumerv1.Consumer) string {
	var names []string
	for _, one := range consumers {
		names = append(names, one.GetConsumerId())
	}
	return listed(names)
}

var byteUnits = []struct {
	name  string
	bytes uint64
}{{"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10}, {"gb", 1e9}, {"mb", 1e6}, {"kb", 1e3}, {"g", 1e9}, {"m", 1e6}, {"k", 1e3}, {"b", 1}, {"", 1}}

// readBytes takes a number of bytes above 0, such as 4096, 500k, 10MB or 1.5GiB.
func readBytes(text string) (uint64, error) {
	for _, unit := range byteUnits {
		number, ok := strings.CutSuffix(strings.ToLower(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if n *= float64(unit.bytes); err == nil && n >= 1 && n < 1<<63 {
			return uint64(n), nil
		}
		break
	}
	return 0, fault.New(fault.InvalidArgument, "%q is no number of bytes: give one such as 4096, 500k, 10MB or 1.5GiB", text)
}

// bytesWord writes bytes for people.
func bytesWord(n uint64) string {
	for _, unit := range []struct {
		name  string
		bytes float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(n) >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// expiryWord says when what a consumer needs will be gone: in so many seconds, the least over its lanes. "-": it will not, or is not known.
func expiryWord(one *consumerv1.Consumer) string {
	seconds, will := expires(one)
	switch {
	case !will:
		return "-"
	case seconds == 0:
		return "expired"
	}
	return "in " + spanWord(seconds)
}

func expires(one *consumerv1.Consumer) (seconds float64, will bool) {
	seconds = math.Inf(1)
	for _, l := range one.GetLanes() {
		if l.ExpiresSeconds != nil {
			seconds, will = min(seconds, l.GetExpiresSeconds()), true
		}
	}
	return seconds, will
}

// spanWord writes a time with as much precision as a forecast has.
func spanWord(seconds float64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 120*60:
		return fmt.Sprintf("%.0f min", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%.0f h", seconds/3600)
	}
	return fmt.Sprintf("%.0f days", seconds/86400)
}

// progressWord says how far a phase is that has an end; "-" for one that has none.
func progressWord(h *consumerv1.Health) string {
	percent := func(done, expected uint64) string {
		return fmt.Sprintf("%.0f %% of ", 100*float64(done)/float64(expected))
	}
	switch {
	case h.GetExpectedBytes() > 0:
		return percent(h.GetDoneBytes(), h.GetExpectedBytes()) + bytesWord(h.GetExpectedBytes())
	case h.GetExpected() > 0:
		return percent(h.GetDone(), h.GetExpected()) + counts(int(h.GetExpected()), "row")
	case h.GetDoneBytes() > 0:
		return bytesWord(h.GetDoneBytes())
	case h.GetDone() > 0:
		return counts(int(h.GetDone()), "row")
	}
	return "-"
}

func kindWord(k consumerv1.ConsumerKind) string { return word(k.String(), "CONSUMER_KIND_") }

func phaseWord(one *consumerv1.Consumer) string {
	if !one.GetAttached() {
		return "away"
	}
	if phase := word(one.GetHealth().GetPhase().String(), "PHASE_"); phase != "" {
		return phase
	}
	return "attached"
}

func ago(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return max(0, time.Since(time.UnixMilli(ms))).Round(time.Second).String() + " ago"
}
