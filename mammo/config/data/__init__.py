"""Keys of the node `data`: their names, types and checks."""
