"""What does a publisher do?  Slots that keep their plan, the bytes of commands, and the replies of Redis."""
