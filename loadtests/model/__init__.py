"""The nouns of Tickstorm: what every other part may speak about.  Imports nothing of ours; touches no clock, socket or file."""
