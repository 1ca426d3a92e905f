"""What does a process keep while messages pass?  Accounting per message, histograms, grouping, budgets; no clock, no socket."""
