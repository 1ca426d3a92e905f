"""What does one see while a run goes on?  The live page inside the web UI of Locust."""
