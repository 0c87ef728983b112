"""Tables that others have written: files of any usual kind as text, and the words they use for values."""
