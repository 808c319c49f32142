module github.com/lockstep-mq/lockstep/e2e

go 1.26
