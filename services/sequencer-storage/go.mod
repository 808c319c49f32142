module github.com/lockstep-mq/lockstep/services/sequencer-storage

go 1.26
