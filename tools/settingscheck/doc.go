// Package settingscheck keeps the settings of all programs one scheme: one word per thing, the same in flag, environment and file, and
// docs/settings.md written from the flags, docs/metrics.md from what the services register. `go test ./tools/settingscheck -update` writes
// the pages.
package settingscheck
