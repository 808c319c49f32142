// Code generators, pinned apart from the other tools: buf asks for a newer protobuf than the product runs on.
module github.com/lockstep-mq/lockstep/tools/devtools/protogen

go 1.26

tool (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc
	google.golang.org/protobuf/cmd/protoc-gen-go
)

require (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
