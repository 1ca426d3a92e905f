"""How are results shown?  Turns Results into text and computes nothing."""
