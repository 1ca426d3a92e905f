"""What is a profile?  Its tables, the rules between them, and how a text becomes one."""
