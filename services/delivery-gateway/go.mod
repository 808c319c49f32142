module github.com/lockstep-mq/lockstep/services/delivery-gateway

go 1.26.0

require (
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/klauspost/compress v1.20.3
	github.com/lockstep-mq/lockstep/api v0.0.0
	github.com/lockstep-mq/lockstep/libs/message-common v0.0.0
	github.com/lockstep-mq/lockstep/libs/rsocket v0.0.0
	github.com/lockstep-mq/lockstep/libs/service-kit v0.0.0
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/nats-io/nats.go v1.55.0
	github.com/prometheus/client_golang v1.25.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/spf13/pflag v1.1.0
	github.com/zeebo/xxh3 v1.1.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.24.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
	pgregory.net/rapid v1.3.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/coder/websocket v1.8.15 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/rsocket/rsocket-go v0.8.16 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)

replace (
	github.com/lockstep-mq/lockstep/api => ../../api
	github.com/lockstep-mq/lockstep/libs/message-common => ../../libs/message-common
	github.com/lockstep-mq/lockstep/libs/rsocket => ../../libs/rsocket
	github.com/lockstep-mq/lockstep/libs/service-kit => ../../libs/service-kit
)
