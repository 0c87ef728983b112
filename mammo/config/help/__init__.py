"""What `--help` and the reference of the configuration say: keys, types, defaults and meanings."""
