package composite_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rsocket/rsocket-go/extension"

	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

func must(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func sample(t testing.TB) []byte {
	ok := must(t)
	b := ok(composite.AppendRoute(nil, "subscribe", "tag"))
	b = ok(composite.AppendBearer(b, "t0ken"))
	b = ok(composite.AppendSimple(b, "user", "pass"))
	b = ok(composite.Append(b, "x.lockstep/own", []byte{1, 2, 3}))
	return ok(composite.Append(b, "application/json", nil))
}

// What this package writes, rsocket-go's own codec reads, and the other way round.
func TestAgreesWithRSocketGo(t *testing.T) {
	var types []string
	scan := extension.NewCompositeMetadataBytes(sample(t)).Scanner()
	for scan.Scan() {
		mime, content, err := scan.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, mime)
		switch mime {
		case composite.MIMERouting:
			tags, err := extension.ParseRoutingTags(content)
			if err != nil || strings.Join(tags, ",") != "subscribe,tag" {
				t.Errorf("routing: %q %v", tags, err)
			}
		case composite.MIMEAuthentication:
			a, err := extension.ParseAuthentication(content)
			if err != nil || a.Type() == composite.TypeBearer && string(a.Payload()) != "t0ken" {
				t.Errorf("authentication: %v %v", a, err)
			}
		}
	}
	want := []string{composite.MIMERouting, composite.MIMEAuthentication, composite.MIMEAuthentication, "x.lockstep/own", "application/json"}
	if strings.Join(types, " ") != strings.Join(want, " ") {
		t.Errorf("types %q", types)
	}

	theirs, err := extension.NewCompositeMetadataBuilder().PushWellKnown(extension.MessageRouting, must(t)(extension.EncodeRouting("ack"))).Push("x/y", []byte("z")).Build()
	if err != nil {
		t.Fatal(err)
	}
	if route, err := composite.Route(theirs); err != nil || route != "ack" {
		t.Errorf("route %q, %v", route, err)
	}
	if z, err := composite.Find(theirs, "x/y"); err != nil || string(z) != "z" {
		t.Errorf("own type %q, %v", z, err)
	}
}

func TestAuthentication(t *testing.T) {
	var got []composite.Authentication
	for e, err := range composite.Entries(sample(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if e.MIME == composite.MIMEAuthentication {
			a, err := composite.ParseAuthentication(e.Content)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, a)
		}
	}
	if len(got) != 2 || got[0].Token != "t0ken" || got[1].User != "user" || got[1].Password != "pass" {
		t.Errorf("%+v", got)
	}
	own, err := composite.ParseAuthentication(append([]byte{3}, "mine secret"...))
	if err != nil || own.Type != "mine" || string(own.Raw) != " secret" {
		t.Errorf("%+v %v", own, err)
	}
}

func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"MIME text cut short": {9, 'a'}, "MIME text not ASCII": {0, 0xff, 0, 0, 0}, "no length": {0xfe}, "length cut short": {0xfe, 0, 0},
		"content cut short": {0xfe, 0, 0, 9, 'x'}, "length past everything": {0xfe, 0xff, 0xff, 0xff}, "tag cut short": {0xfe, 0, 0, 2, 9, 'x'},
	} {
		if route, err := composite.Route(b); !errors.Is(err, composite.ErrMalformed) {
			t.Errorf("%s: route %q, %v", name, route, err)
		}
	}
	for _, b := range [][]byte{nil, {0x80}, {0x80, 0}, {0x80, 0, 5, 'a'}, {0xff}, {9, 'a'}} {
		if a, err := composite.ParseAuthentication(b); !errors.Is(err, composite.ErrMalformed) {
			t.Errorf("authentication % x: %+v, %v", b, a, err)
		}
	}
	if _, err := composite.Append(nil, strings.Repeat("m", 129), nil); err == nil {
		t.Error("a MIME type of 129 bytes was written")
	}
	if _, err := composite.AppendRoute(nil, strings.Repeat("r", 256)); err == nil {
		t.Error("a tag of 256 bytes was written")
	}
}

// FuzzEntries: whatever the bytes, no panic; what reads without an error and uses text MIME types
// or ids of the table is written back to the same entries.
func FuzzEntries(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte{0xfe, 0, 0, 2, 1, 'x', 0xfc, 0, 0, 1, 0x81})
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		var entries []composite.Entry
		for e, err := range composite.Entries(b) {
			if err != nil {
				return
			}
			_, _ = composite.ParseRoute(e.Content)
			_, _ = composite.ParseAuthentication(e.Content)
			entries = append(entries, e)
			if again, err = composite.Append(again, e.MIME, e.Content); err != nil {
				t.Fatalf("read but cannot write %q: %v", e.MIME, err)
			}
		}
		i := 0
		for e, err := range composite.Entries(again) {
			if err != nil || e.MIME != entries[i].MIME || !bytes.Equal(e.Content, entries[i].Content) {
				t.Fatalf("entry %d: %v, %v", i, e, err)
			}
			i++
		}
		if i != len(entries) {
			t.Fatalf("%d entries became %d", len(entries), i)
		}
	})
}
