package settings

// One word per thing, in every program. A port beside the main one says what it speaks: listen-http, listen-websocket.
const (
	Admin         = "admin"          // where health and metrics are served
	Config        = "config"         // the file of settings
	ConsumerState = "consumer-state" // where consumer-state is
	Data          = "data"           // the data directory
	Gateway       = "gateway"        // where a delivery gateway is
	Ingest        = "ingest"         // where ingest is
	Listen        = "listen"         // where the service itself is served
	NATS          = "nats"           // where NATS is
	Redis         = "redis"          // where Redis is
	Sequencer     = "sequencer"      // where sequencer-storage is
	Token         = "token"          // the bearer token to show
	TokensFile    = "tokens-file"    // the file of bearer tokens and what they grant
)
