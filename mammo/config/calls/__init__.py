"""Calls of commands: values of overrides, settings in which trainings differ, the calls that come next."""
