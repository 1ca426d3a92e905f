"""The nouns of Tickstorm: what every other part may speak about.  Imports nothing of ours, touches no file or clock."""
