package command

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
)

func TestReadBytes(t *testing.T) {
	for text, want := range map[string]uint64{
		"1": 1, "4096": 4096, "500k": 500_000, "10MB": 10_000_000, "1.5GiB": 3 << 29, "2 KiB": 0, "64b": 64, "3Mib": 3 << 20,
		"": 0, "k": 0, "0": 0, "-5": 0, "fast": 0, "1e30": 0, "nan": 0, "0.5": 0, "0x10": 0,
	} {
		got, err := readBytes(text)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
}

func TestReadMoment(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-25T08:00:00Z": "2026-11-25T08:00:00Z", "2026-11-25T08:00:00+02:00": "2026-11-25T06:00:00Z", "2026-11-25T08:00": "2026-11-25T08:00:00Z",
		"2026-11-25": "2026-11-25T00:00:00Z", "2h": "2026-11-25T10:00:00Z", "90m": "2026-11-25T10:30:00Z",
		"noon": "", "-2h": "", "0s": "", "1950-01-01": "", "": "",
	} {
		got, err := readMoment(text, now)
		if err != nil && want != "" || err == nil && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %v %v, want %s", text, got, err, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	one := func(seconds ...float64) *consumerv1.Consumer {
		c := &consumerv1.Consumer{Lanes: []*consumerv1.LaneLag{{}}}
		for i := range seconds {
			c.Lanes = append(c.Lanes, &consumerv1.LaneLag{ExpiresSeconds: &seconds[i]})
		}
		return c
	}
	for want, c := range map[string]*consumerv1.Consumer{
		"-": one(), "expired": one(90, 0), "in 90 s": one(90, 1e6), "in 10 min": one(600), "in 47 h": one(47 * 3600), "in 12 days": one(12 * 86400),
	} {
		if got := expiryWord(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var out bytes.Buffer
	expiring := []expiringConsumer{{"gone", 0}, {"near", 600}}
	for i := range 30 {
		expiring = append(expiring, expiringConsumer{fmt.Sprint("far-", i), 1e6})
	}
	if err := (&console{out: &out}).warn(expiring); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 21 || lines[0] != "consumer gone needs a resync: what it has to read next has expired" ||
		lines[1] != "consumer near will need a resync in 10 min at the present rates" || lines[20] != "and 12 more; `lockstep consumer list` has them" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

func TestProgressWords(t *testing.T) {
	for want, h := range map[string]*consumerv1.Health{
		"-": {}, "25 % of 4.0 MB": {DoneBytes: 1e6, ExpectedBytes: 4e6, Done: 1, Expected: 2}, "50 % of 2 rows": {Done: 1, Expected: 2},
		"1 row": {Done: 1}, "1.5 kB": {DoneBytes: 1500},
	} {
		if got := progressWord(h); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
