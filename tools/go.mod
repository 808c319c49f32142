module github.com/lockstep-mq/lockstep/tools

go 1.26
