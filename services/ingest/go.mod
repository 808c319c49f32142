module github.com/lockstep-mq/lockstep/services/ingest

go 1.26
