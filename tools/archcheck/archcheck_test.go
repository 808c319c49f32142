package archcheck

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/lockstep-mq/lockstep/"

// mayImport lists, for each module, the other modules of the house its packages may import.
var mayImport = map[string]struct {
	allowed []string
	reason  string
}{
	"api":                        {[]string{"libs/message-common"}, "contracts know the vocabulary, and nothing of who uses them"},
	"libs/message-common":        {nil, "the vocabulary is light and pure: the SDK imports it"},
	"libs/rsocket":               {nil, "the engine moves payloads and knows nothing of records"},
	"libs/service-kit":           {[]string{"api", "libs/message-common"}, "plumbing does not know services"},
	"services/ingest":            {[]string{"api", "libs/message-common", "libs/service-kit"}, "services meet only through contracts"},
	"services/sequencer-storage": {[]string{"api", "libs/message-common", "libs/service-kit"}, "services meet only through contracts"},
	"services/delivery-gateway":  {[]string{"api", "libs/message-common", "libs/service-kit", "libs/rsocket"}, "services meet only through contracts"},
	"services/consumer-state":    {[]string{"api", "libs/message-common", "libs/service-kit"}, "services meet only through contracts"},
	"sdk":                        {[]string{"api", "libs/message-common", "libs/rsocket"}, "a consumer must not pull in server plumbing"},
	"tools":                      {[]string{"*"}, "the command line runs everything"},
	"e2e":                        {[]string{"*"}, "scenarios see everything"},
}

// oneRoom lists foreign libraries that may be imported below these folders only, so that replacing one touches one folder.
var oneRoom = map[string]struct {
	rooms  []string
	reason string
}{
	"github.com/linxGnu/grocksdb":     {[]string{"services/sequencer-storage/"}, "RocksDB is the sequencer's"},
	"github.com/redis/go-redis/v9":    {[]string{"services/delivery-gateway/"}, "Redis is the gateways' cache and nothing else's"},
	"github.com/nats-io/nats.go":      {[]string{"libs/service-kit/notify", "e2e/bench"}, "NATS carries hints, through one door; the benchmarks stand beside JetStream"},
	"github.com/nats-io/nats-server/": {[]string{"tools/", "e2e/"}, "only lockstep dev embeds a NATS server"},
	"github.com/rsocket/rsocket-go":   {[]string{"libs/rsocket", "e2e/interop"}, "only its frame codec is used, by our engine"},
	"github.com/coder/websocket":      {[]string{"libs/rsocket"}, "the engine owns its transports"},
	"github.com/mattn/go-sqlite3":     {[]string{"services/sequencer-storage/", "services/consumer-state/", "sdk/"}, "SQLite is catalogue, cursors and replicas"},
	"github.com/zeebo/xxh3":           {[]string{"libs/message-common/", "sdk/"}, "hashes that are contracts are made in one place; the SDK names a replica by one"},
}

// moduleOf gives the module a path of the repository belongs to.
func moduleOf(t *testing.T, at string) string {
	for name := range mayImport {
		if at == name || strings.HasPrefix(at, name+"/") {
			return name
		}
	}
	t.Fatalf("%s belongs to no module in the table", at)
	return ""
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		from := moduleOf(t, s.path)
		rule := mayImport[from]
		for _, i := range s.imports {
			if rest, ours := strings.CutPrefix(i, module); ours {
				to := moduleOf(t, rest)
				if to != from && !contains(rule.allowed, to) {
					t.Errorf("%s imports %s: %s", s.path, rest, rule.reason)
				}
				continue
			}
			if s.isTest() {
				continue // tests may bring their own peers
			}
			for library, room := range oneRoom {
				if !strings.HasPrefix(i, library) {
					continue
				}
				if !under(s.path, room.rooms) {
					t.Errorf("%s imports %s: %s", s.path, i, room.reason)
				}
			}
		}
	}
}

func contains(allowed []string, name string) bool {
	for _, a := range allowed {
		if a == "*" || a == name {
			return true
		}
	}
	return false
}

func under(at string, rooms []string) bool {
	for _, r := range rooms {
		if strings.HasPrefix(at, r) {
			return true
		}
	}
	return false
}

// Every package says what it is for.
func TestPackageComments(t *testing.T) {
	commented := map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		commented[s.dir()] = commented[s.dir()] || s.file.Doc != nil && len(s.file.Doc.Text()) > 40
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s: no package comment says what the package is for", dir)
		}
	}
}

var (
	forbiddenFile = regexp.MustCompile(`^(utils?|helpers?|common|misc|base|manager)(_.*)?\.go$`)
	forbiddenType = regexp.MustCompile(`^(Common.*|.*(Manager|Helper|Util|Utils|Impl))$`)
)

// No file or type is a place where things end up.
func TestNames(t *testing.T) {
	for _, s := range sources(t) {
		if forbiddenFile.MatchString(path.Base(s.path)) {
			t.Errorf("%s: name the file for the one noun it holds", s.path)
		}
		for name := range s.file.Scope.Objects { //nolint:staticcheck // the deprecated Scope is enough for names of one file
			if forbiddenType.MatchString(name) {
				t.Errorf("%s: %s says nothing; name it for what it is", s.path, name)
			}
		}
		if !s.isTest() && s.lines > maxLines {
			t.Errorf("%s has %d lines: it holds more than one noun", s.path, s.lines)
		}
	}
}

// maxLines is where a file surely holds two nouns; STYLE asks the question at 300 already.
const maxLines = 600
