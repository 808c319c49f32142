package schema

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

func TestCheck(t *testing.T) {
	s, err := Compile(`{"type":"object","required":["id"],"properties":{"id":{"$ref":"#/$defs/id"}},"$defs":{"id":{"type":"integer","minimum":1}}}`)
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		`{"id":1}`: "", `{"id":0}`: "/id", `{}`: "id", `[]`: "object", `{`: "not JSON", ``: "not JSON", `{"id":1} {}`: "not JSON",
	} {
		err := s.Check([]byte(value))
		if want == "" && err != nil || want != "" && (!errors.Is(err, fault.SchemaMismatch) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q in it", value, err, want)
		}
	}
	var none *Schema
	if err := none.Check([]byte("{")); err != nil {
		t.Errorf("no schema refuses: %v", err)
	}
}

func TestSchemasStandAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.json")
	if err := os.WriteFile(path, []byte(`{"type":"integer"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`{`, `{"type":5}`, `{"$ref":"file://` + path + `"}`, `{"$ref":"https://example.org/s.json"}`, `{"$ref":"other"}`, strings.Repeat(" ", MaxBytes+1)} {
		if _, err := Compile(text); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}
