module github.com/lockstep-mq/lockstep/sdk

go 1.26.0

require (
	github.com/lockstep-mq/lockstep/api v0.0.0
	github.com/lockstep-mq/lockstep/libs/message-common v0.0.0
	github.com/lockstep-mq/lockstep/libs/rsocket v0.0.0
	github.com/mattn/go-sqlite3 v1.14.53
	github.com/zeebo/xxh3 v1.1.0
	go.uber.org/goleak v1.3.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/klauspost/cpuid/v2 v2.2.10 // indirect
	github.com/rsocket/rsocket-go v0.8.16 // indirect
	go.uber.org/atomic v1.7.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	lukechampine.com/blake3 v1.4.1 // indirect
)

replace (
	github.com/lockstep-mq/lockstep/api => ../api
	github.com/lockstep-mq/lockstep/libs/message-common => ../libs/message-common
	github.com/lockstep-mq/lockstep/libs/rsocket => ../libs/rsocket
)
