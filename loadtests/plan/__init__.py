"""What happens in a run, decided before it begins?  Pure: the same profile and seed give the same plan."""
