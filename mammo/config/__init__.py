"""The configuration: its schema, its checks, its composition, and the commands that use it."""
