package settingscheck

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
	"github.com/lockstep-mq/lockstep/tools/internal/command"
)

var update = flag.Bool("update", false, "write docs/settings.md")

// The page says what the flags say.
func TestPage(t *testing.T) {
	want := page()
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", "docs", "settings.md"), []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, "docs", "settings.md") != want {
		t.Error("docs/settings.md has drifted from the flags: `make settings` writes it")
	}
}

const opening = `# Settings

Written from the flags by ` + "`make settings`" + `; a test fails when it has drifted.

A setting has one name everywhere: ` + "`--drain-timeout 5s`" + ` on the command line, ` + "`LOCKSTEP_DRAIN_TIMEOUT=5s`" + ` in the environment,
` + "`drain-timeout: 5s`" + ` in the YAML file that ` + "`--config`" + ` names, in this order of weight. One word means the same in every program.
A name in the file that is no setting is an error. Bytes are plain numbers; times are like ` + "`500ms`, `5s`, `1h`" + `.
`

func page() string {
	var b strings.Builder
	b.WriteString(opening)
	for _, c := range services() {
		section(&b, c)
	}
	dev, _, err := command.Root().Find([]string{"dev"})
	if err != nil {
		panic(err) // the command exists
	}
	section(&b, dev)
	b.WriteString("\n## Every command of lockstep\n\n")
	table(&b, command.Root().PersistentFlags())
	return b.String()
}

func section(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", c.CommandPath(), c.Short)
	table(b, c.LocalNonPersistentFlags())
}

func table(b *strings.Builder, fs *pflag.FlagSet) {
	b.WriteString("| flag, key of the file | variable | default | is |\n|---|---|---|---|\n")
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		value := ""
		if f.DefValue != "" && f.DefValue != "[]" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s | %s |\n", f.Name, settings.Variable(f.Name), value, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
}
