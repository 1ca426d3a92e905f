"""Who consumes?  Connections, the messages that come over them, and what a consumer does between them."""
