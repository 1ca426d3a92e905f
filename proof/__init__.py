"""Does the tool find exactly what was planted?  Sections of `tickstorm prove`; imports the model alone."""
