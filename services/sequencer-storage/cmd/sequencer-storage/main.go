// Command sequencer-storage runs the service of that name, or checks a stopped data directory. See package sequencer.
package main

import (
	"os"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

func main() {
	os.Exit(process.Main(sequencer.Program()))
}
