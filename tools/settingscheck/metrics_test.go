package settingscheck

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-mq/lockstep/tools/internal/devhouse"
)

// The page of metrics says what the services register.
func TestMetricsPage(t *testing.T) {
	want := metricsPage(t)
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", "docs", "metrics.md"), []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, "docs", "metrics.md") != want {
		t.Error("docs/metrics.md has drifted from the services: `make settings` writes it")
	}
}

const metricsOpening = `# Metrics

Written from the services by ` + "`make settings`" + `; a test fails when it has drifted. Prometheus reads them at ` + "`/metrics`" + ` of each service's
admin address, beside those of the Go runtime; ` + "`lockstep dev`" + ` has all of them on one page, with a label ` + "`service`" + `. Labels of a
metric are in braces.
`

// described is what a description says of itself in words.
var described = regexp.MustCompile(`^Desc\{fqName: "(lockstep_[^"]*)", help: "([^"]*)"[^}]*constLabels: \{service="([^"]*)"\}, variableLabels: \{(.*)\}\}$`)

func metricsPage(t *testing.T) string {
	h, err := devhouse.New(t.Context(), devhouse.Config{Data: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan *prometheus.Desc, 1)
	go func() { // ends when everything is named
		h.Describe(all)
		close(all)
	}()
	rows := map[string][]string{}
	for one := range all {
		m := described.FindStringSubmatch(one.String())
		if m == nil {
			continue // of the Go runtime
		}
		name := m[1]
		if m[4] != "" {
			name += "{" + m[4] + "}"
		}
		rows[m[3]] = append(rows[m[3]], fmt.Sprintf("| `%s` | %s |\n", name, strings.ReplaceAll(m[2], "|", "\\|")))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := h.Run(ctx); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(metricsOpening)
	if want := []string{"consumer-state", "delivery-gateway", "ingest", "sequencer-storage"}; !slices.Equal(slices.Sorted(maps.Keys(rows)), want) {
		t.Fatalf("metrics are of %v", slices.Sorted(maps.Keys(rows)))
	}
	for _, service := range []string{"ingest", "sequencer-storage", "delivery-gateway", "consumer-state"} { // in the order of the data's flow
		slices.Sort(rows[service])
		fmt.Fprintf(&b, "\n## %s\n\n| metric | is |\n|---|---|\n%s", service, strings.Join(slices.Compact(rows[service]), ""))
	}
	return b.String()
}
