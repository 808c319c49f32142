// Command ingest takes records in over gRPC and HTTP, and hands batches to sequencer-storage. See package ingest.
package main

import (
	"os"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

func main() {
	os.Exit(process.Main(ingest.Program()))
}
