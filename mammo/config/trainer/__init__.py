"""The group `trainer`: its keys with their types, and the arguments of Lightning that are no keys."""
