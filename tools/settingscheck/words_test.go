package settingscheck

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// second lists words that say again what has a word already, whole or as a part of a name.
var second = map[string]string{
	"addr": settings.Listen, "address": settings.Listen, "bind": settings.Listen, "host": settings.Listen, "grpc": settings.Listen,
	"http": settings.Listen + "-http", "websocket": settings.Listen + "-websocket", "rsocket": settings.Listen,
	"dir": settings.Data, "directory": settings.Data, "folder": settings.Data, "path": settings.Data,
	"settings": settings.Config, "conf": settings.Config,
	"metrics": settings.Admin, "health": settings.Admin, "probe": settings.Admin,
	"consumers": settings.ConsumerState, "state": settings.ConsumerState, "consumerstate": settings.ConsumerState,
	"storage": settings.Sequencer, "sequencer-storage": settings.Sequencer, "delivery-gateway": settings.Gateway, "gateways": settings.Gateway,
	"cache": settings.Redis, "bus": settings.NATS, "url": "the word of what is there",
	"grace": "stop-grace", "shutdown": "stop-grace", "linger": "stop-grace", "buffer": "...-bytes", "size": "...-bytes", "limit": "max-...",
}

// said lists the names in which such a word is right.
var said = map[string]bool{
	"listen-http": true, "listen-websocket": true, settings.ConsumerState: true,
	"stop-grace": true, "cache-bytes": true, "log-buffer-bytes": true, "state-buffer-bytes": true, // RocksDB's, in memory
	"max-consumers":    true,                                                              // a bound of consumers, not where they are kept
	"ingest-http-port": true, "gateway-websocket-port": true, "consumer-state-port": true, // lockstep dev: always loopback
}

// No setting is a second word for what another is called, in any program.
func TestOneWordPerThing(t *testing.T) {
	for _, c := range all() {
		flags(c, func(f *pflag.Flag) {
			if said[f.Name] {
				return
			}
			for _, part := range append(strings.Split(f.Name, "-"), f.Name) {
				if word, ok := second[part]; ok {
					t.Errorf("%s --%s: the word for it is %s", c.CommandPath(), f.Name, word)
				}
			}
		})
	}
}

// One name is one kind of thing, and one thing that is told in the same words has one name.
func TestOneThingPerWord(t *testing.T) {
	kinds, names := map[string]string{}, map[string]string{}
	for _, c := range all() {
		flags(c, func(f *pflag.Flag) {
			if kind, ok := kinds[f.Name]; ok && kind != f.Value.Type() {
				t.Errorf("%s --%s is a %s, and a %s elsewhere", c.CommandPath(), f.Name, f.Value.Type(), kind)
			}
			kinds[f.Name] = f.Value.Type()
			what, _, _ := strings.Cut(f.Usage, ";")
			if name, ok := names[what]; ok && name != f.Name {
				t.Errorf("%s --%s is told as --%s is: %q", c.CommandPath(), f.Name, name, what)
			}
			names[what] = f.Name
		})
	}
	for _, word := range []string{settings.Admin, settings.Config, settings.ConsumerState, settings.Data, settings.Gateway, settings.Ingest,
		settings.Listen, settings.NATS, settings.Redis, settings.Sequencer} {
		if kinds[word] == "" {
			t.Errorf("no program has the setting %q", word)
		}
	}
}

// Every service has the settings that every service has.
func TestEveryServiceHasThem(t *testing.T) {
	for _, c := range services() {
		for _, word := range []string{settings.Admin, settings.Config, settings.Listen} {
			if c.Flags().Lookup(word) == nil {
				t.Errorf("%s has no --%s", c.Name(), word)
			}
		}
	}
}

var (
	composeService  = regexp.MustCompile(`^  ([a-z-]+):`)
	composeVariable = regexp.MustCompile(`^      (LOCKSTEP_[A-Z_]+):`)
	imageVariable   = regexp.MustCompile(`\b(LOCKSTEP_[A-Z_]+)=`)
)

// What compose and the image set are settings of the service they set them for.
func TestDeploymentsSetWhatExists(t *testing.T) {
	known := map[string]map[string]bool{}
	for _, c := range services() {
		known[c.Name()] = map[string]bool{}
		flags(c, func(f *pflag.Flag) { known[c.Name()][settings.Variable(f.Name)] = true })
	}
	service, found := "", 0
	for _, line := range strings.Split(read(t, "docker-compose.yml"), "\n") {
		if m := composeService.FindStringSubmatch(line); m != nil {
			service = m[1]
		}
		if m := composeVariable.FindStringSubmatch(line); m != nil {
			found++
			if !known[service][m[1]] {
				t.Errorf("docker-compose.yml sets %s for %s, which has no such setting", m[1], service)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d variables were found in docker-compose.yml: the walk is broken", found)
	}
	for _, m := range imageVariable.FindAllStringSubmatch(read(t, "deployments", "Dockerfile"), -1) {
		for name, variables := range known {
			if !variables[m[1]] {
				t.Errorf("the image sets %s, which %s does not have", m[1], name)
			}
		}
	}
}
