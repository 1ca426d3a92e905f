"""What does the history say?  Folds and checks over records; touches no clock, socket or file."""
