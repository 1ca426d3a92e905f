"""What puts the load on the target?  Locust user classes and their transports."""
