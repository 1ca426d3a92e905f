"""A gateway that lies on purpose and writes down how: what a load tool's account is compared with.

It shares no code with the tool that it examines and imports the standard library only. README.md has its plan and book.
"""
