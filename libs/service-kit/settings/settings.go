// Package settings fills flags that were not given on the command line: from the environment, then from a file.
//
//	--data-dir DIR   over   LOCKSTEP_DATA_DIR=DIR   over   data-dir: DIR (in the file)   over   the flag's default
package settings

import (
	"fmt"
	"os"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// Load sets every flag of fs that was not given: from the variable <prefix>_<FLAG_NAME>, else from the YAML file at path. An empty
// path means no file. A name in the file that is no flag is an error, since it is most likely misspelt; so is a value a flag refuses.
func Load(fs *pflag.FlagSet, prefix, path string) error {
	k := koanf.New(".")
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return fmt.Errorf("settings file %s: %w", path, err)
		}
		for _, name := range k.Keys() {
			if fs.Lookup(name) == nil {
				return fmt.Errorf("settings file %s: there is no setting %q; see --help", path, name)
			}
		}
	}
	var failed error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil {
			return
		}
		variable := prefix + "_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := os.LookupEnv(variable); ok {
			if err := fs.Set(f.Name, value); err != nil {
				failed = fmt.Errorf("environment variable %s: %w", variable, err)
			}
			return
		}
		if k.Exists(f.Name) {
			if err := fs.Set(f.Name, k.String(f.Name)); err != nil {
				failed = fmt.Errorf("settings file %s: %s: %w", path, f.Name, err)
			}
		}
	})
	return failed
}
