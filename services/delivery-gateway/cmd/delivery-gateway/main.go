// Command delivery-gateway delivers streams to consumers over RSocket. See package gateway.
package main

import (
	"os"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
)

func main() {
	os.Exit(process.Main(gateway.Program()))
}
