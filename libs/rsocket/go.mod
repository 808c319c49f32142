module github.com/lockstep-mq/lockstep/libs/rsocket

go 1.26

require (
	github.com/coder/websocket v1.8.15
	github.com/rsocket/rsocket-go v0.8.16
	go.uber.org/goleak v1.3.0
)

require (
	github.com/pkg/errors v0.9.1 // indirect
	go.uber.org/atomic v1.7.0 // indirect
)
