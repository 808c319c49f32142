// Package settings fills flags that were not given on the command line: from the environment, then from a file.
//
//	--drain-timeout 5s   over   LOCKSTEP_DRAIN_TIMEOUT=5s   over   drain-timeout: 5s (in the file)   over   the flag's default
//
// A name is the same in all three, and in every program that has the setting (words.go).
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

// File declares the setting that names the file of the others.
func File(fs *pflag.FlagSet) { fs.String(Config, "", "YAML file of settings, named like the flags") }

// Variable is the environment's name of a setting.
func Variable(name string) string {
	return "LOCKSTEP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Load sets every flag of fs that was not given: from its variable, else from the YAML file that the setting Config names, if fs has it.
// A name in the file that is no flag is an error, since it is most likely misspelt; so is a value a flag refuses.
func Load(fs *pflag.FlagSet) error {
	path := ""
	if f := fs.Lookup(Config); f != nil {
		path = f.Value.String()
		if value, ok := os.LookupEnv(Variable(Config)); ok && !f.Changed {
			path = value
		}
	}
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
		variable := Variable(f.Name)
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
