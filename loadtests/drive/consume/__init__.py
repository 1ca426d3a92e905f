"""What does a consumer do?  Connections, the messages that come over them, reconnecting, faults that it plays."""
