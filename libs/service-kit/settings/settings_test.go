package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

func TestFlagOverEnvironmentOverFileOverDefault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte("a: file\nb: file\nin-file: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOCKSTEP_A", "environment")
	t.Setenv("LOCKSTEP_B", "environment")
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	a := fs.String("a", "default", "")
	b := fs.String("b", "default", "")
	inFile := fs.Int("in-file", 1, "")
	none := fs.String("none", "default", "")
	settings.File(fs)
	if err := fs.Parse([]string{"--a", "flag", "--config", path}); err != nil {
		t.Fatal(err)
	}
	if err := settings.Load(fs); err != nil {
		t.Fatal(err)
	}
	if *a != "flag" || *b != "environment" || *inFile != 7 || *none != "default" {
		t.Fatalf("got %q %q %d %q", *a, *b, *inFile, *none)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ file, env, want string }{
		"misspelt name":    {"adress: x\n", "", `no setting "adress"`},
		"not yaml":         {"a: [\n", "", "settings file"},
		"refused in file":  {"n: many\n", "", "n:"},
		"refused variable": {"", "many", "LOCKSTEP_N"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			fs.Int("n", 1, "")
			path := ""
			if c.file != "" {
				path = filepath.Join(dir, "s.yaml")
				if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.env != "" {
				t.Setenv("LOCKSTEP_N", c.env)
			}
			settings.File(fs)
			t.Setenv("LOCKSTEP_CONFIG", path) // the file itself is a setting
			if err := settings.Load(fs); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}
