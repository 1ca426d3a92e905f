"""Who reads the database?  Open loop, as a role that can only read."""
