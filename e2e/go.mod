module github.com/lockstep-mq/lockstep/e2e

go 1.26.0

require (
	github.com/klauspost/compress v1.20.3
	github.com/lockstep-mq/lockstep/api v0.0.0
	github.com/lockstep-mq/lockstep/libs/message-common v0.0.0
	github.com/lockstep-mq/lockstep/libs/rsocket v0.0.0
	github.com/lockstep-mq/lockstep/libs/service-kit v0.0.0
	github.com/lockstep-mq/lockstep/sdk v0.0.0
	github.com/mattn/go-sqlite3 v1.14.53
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/nats-io/nats.go v1.55.0
	github.com/rogpeppe/go-internal v1.16.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/coder/websocket v1.8.15 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/klauspost/cpuid/v2 v2.2.10 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/prometheus/client_golang v1.25.0 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/rsocket/rsocket-go v0.8.16 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	go.uber.org/atomic v1.7.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.16.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	lukechampine.com/blake3 v1.4.1 // indirect
)

replace (
	github.com/lockstep-mq/lockstep/api => ../api
	github.com/lockstep-mq/lockstep/libs/message-common => ../libs/message-common
	github.com/lockstep-mq/lockstep/libs/rsocket => ../libs/rsocket
	github.com/lockstep-mq/lockstep/libs/service-kit => ../libs/service-kit
	github.com/lockstep-mq/lockstep/sdk => ../sdk
)
