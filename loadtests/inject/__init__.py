"""Who slows and cuts the links, and lifts it again?  The injector process and its handle."""
