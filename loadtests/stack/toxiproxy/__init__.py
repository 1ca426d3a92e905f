"""Which Toxiproxy is built here?  go.mod names it, go.sum pins the hashes of all that goes into it."""
