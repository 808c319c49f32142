// Command consumer-state remembers who consumes, how far and how healthy. See package consumerstate.
package main

import (
	"os"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

func main() {
	os.Exit(process.Main(consumerstate.Program()))
}
