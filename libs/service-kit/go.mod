module github.com/lockstep-mq/lockstep/libs/service-kit

go 1.26
