package digest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
)

type row struct {
	key      string
	sequence uint64
	timeMS   int64
	headers  string
	value    string
}

func element(h *digest.Hasher, r row) digest.Element {
	return h.Row([]byte(r.key), r.sequence, r.timeMS, []byte(r.headers), []byte(r.value))
}

// I2, and that what is kept record by record equals what is computed from the rows.
func TestRunningDigestEqualsRecount(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	h := digest.NewHasher(42)
	state := map[string]row{}
	var running digest.Set
	for seq := uint64(1); seq <= 5000; seq++ {
		key := fmt.Sprint("k", r.IntN(200))
		if old, ok := state[key]; ok {
			running.Remove(element(h, old))
			delete(state, key)
		}
		if r.IntN(4) > 0 {
			n := row{key, seq, int64(seq), "", fmt.Sprint(r.Uint64())}
			state[key] = n
			running.Add(element(h, n))
		}
	}
	var halves [2]digest.Set
	for _, n := range state { // map order is random
		halves[r.IntN(2)].Add(element(h, n))
	}
	halves[0].Merge(halves[1])
	if halves[0] != running || running.Count != uint64(len(state)) {
		t.Fatalf("recount %v, running %v, rows %d", halves[0], running, len(state))
	}
}

// I1: no field can change, and no byte can move between fields, without another element.
func TestEveryFieldTakesPart(t *testing.T) {
	h := digest.NewHasher(42)
	base := element(h, row{"key", 5, 6, `{"a":"b"}`, "value"})
	for name, other := range map[string]row{
		"key":           {"kez", 5, 6, `{"a":"b"}`, "value"},
		"sequence":      {"key", 4, 6, `{"a":"b"}`, "value"},
		"time":          {"key", 5, 7, `{"a":"b"}`, "value"},
		"headers":       {"key", 5, 6, `{"a":"c"}`, "value"},
		"value":         {"key", 5, 6, `{"a":"b"}`, "valuf"},
		"key/headers":   {"key{", 5, 6, `"a":"b"}`, "value"},
		"headers/value": {"key", 5, 6, `{"a":"b"}v`, "alue"},
		"swap":          {"key", 6, 5, `{"a":"b"}`, "value"},
	} {
		if element(h, other) == base {
			t.Errorf("%s: the element is the same", name)
		}
	}
	if element(digest.NewHasher(43), row{"key", 5, 6, `{"a":"b"}`, "value"}) == base {
		t.Error("another seed gives the same element")
	}
}

// The hash is a contract between provider and replicas of any version.
func TestGoldenElement(t *testing.T) {
	var s digest.Set
	s.Add(element(digest.NewHasher(0x0123456789abcdef), row{"apple", 41, 1_700_000_000_000, `{"by":"me"}`, `{"price":3}`}))
	if got := s.String(); got != "b710a06b3a7f2aa4ed617204f26ea5e6/1" {
		t.Errorf("got %s", got)
	}
	if back, ok := digest.ParseSum(s.Sum.Append(nil)); !ok || back != s.Sum {
		t.Errorf("%v came back as %v, %v", s.Sum, back, ok)
	}
	if _, ok := digest.ParseSum(make([]byte, 15)); ok {
		t.Error("15 bytes were taken as a sum")
	}
}

func BenchmarkRow(b *testing.B) {
	h := digest.NewHasher(1)
	key, value := []byte("some-key-of-twenty-b"), make([]byte, 190)
	b.ReportAllocs()
	for b.Loop() {
		h.Row(key, 1, 2, nil, value)
	}
}
