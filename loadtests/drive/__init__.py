"""Who makes the load?  Locust user classes and their transports."""
