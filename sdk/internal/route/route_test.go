package route

import "testing"

func TestRoundTrip(t *testing.T) {
	if got, ok := Decode(Encode("lockstep.subscribe")); !ok || got != "lockstep.subscribe" {
		t.Fatalf("got %q, %v", got, ok)
	}
	custom := append([]byte{2, 'a', '/', 'b', 0, 0, 1, 'x'}, Encode("r")...)
	if got, ok := Decode(custom); !ok || got != "r" {
		t.Fatalf("behind another entry: got %q, %v", got, ok)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode("lockstep.range"))
	f.Add([]byte{0xfe, 0, 0, 1, 9})
	f.Add([]byte{0xfe, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := Decode(b); ok && len(got) > maxBytes {
			t.Fatalf("a route of %d bytes", len(got))
		}
	})
}
