// Package settingscheck keeps the settings of all programs one scheme: one word per thing, the same in flag, environment and file, and
// docs/settings.md written from the flags. `go test ./tools/settingscheck -update` writes the page.
package settingscheck
