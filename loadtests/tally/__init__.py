"""What does a process keep while messages pass?  Accounting per message, histograms, budgets; no clock, no socket."""
