module github.com/lockstep-mq/lockstep/services/delivery-gateway

go 1.26
