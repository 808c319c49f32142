module github.com/lockstep-mq/lockstep/sdk

go 1.26
