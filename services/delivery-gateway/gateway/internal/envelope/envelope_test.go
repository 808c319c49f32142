package envelope_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/envelope"
)

func entry(kind []byte, payload string) []byte {
	return append(append(kind, 0, byte(len(payload)>>8), byte(len(payload))), payload...)
}

func named(mime string) []byte { return append([]byte{byte(len(mime) - 1)}, mime...) }

func TestRouteAndBearer(t *testing.T) {
	other := entry([]byte{0x85}, "whatever")
	for name, m := range map[string][]byte{
		"well-known":    entry([]byte{0xFE}, "\x05route"),
		"by name":       entry(named("message/x.rsocket.routing.v0"), "\x05route\x01x"),
		"behind others": append(append(other, entry(named("application/json"), "{}")...), entry([]byte{0xFE}, "\x05route")...),
	} {
		if got, err := envelope.Route(m); got != "route" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, m := range map[string][]byte{
		"none": nil, "other": other, "cut head": {0xFE, 0}, "cut payload": {0xFE, 0, 0, 9, 1}, "cut name": {0x20, 'a'}, "long tag": entry([]byte{0xFE}, "\x09route"),
	} {
		if got, err := envelope.Route(m); !errors.Is(err, fault.Malformed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, m := range map[string][]byte{
		"well-known": entry([]byte{0xFC}, "\x81secret"), "as text": entry([]byte{0xFC}, "\x05bearersecret"),
	} {
		if got, err := envelope.Bearer(m); got != "secret" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := envelope.Bearer(nil); got != "" || err != nil {
		t.Errorf("no token: %q, %v", got, err)
	}
	if _, err := envelope.Bearer(entry([]byte{0xFC}, "\x80\x00\x04userpass")); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a password: %v", err)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(entry([]byte{0xFE}, "\x05route"))
	f.Add(entry(named("message/x.rsocket.routing.v0"), "\x05route"))
	f.Add(entry([]byte{0xFC}, "\x81secret"))
	f.Fuzz(func(t *testing.T, m []byte) {
		route, err := envelope.Route(m)
		if err == nil && !bytes.Contains(m, []byte(route)) {
			t.Fatalf("route %q is not in the metadata", route)
		}
		token, err := envelope.Bearer(m)
		if err == nil && !bytes.Contains(m, []byte(token)) {
			t.Fatalf("token %q is not in the metadata", token)
		}
	})
}
