module github.com/lockstep-mq/lockstep/services/consumer-state

go 1.26
