"""Which servers run here for a test, and how are they started, broken and ended?  Imports only the model of ours."""
