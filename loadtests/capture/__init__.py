"""How do facts reach the disk?  Recorder, shipping from worker to master, probes, clock."""
