"""The list of the runs below a folder, as text, CSV and a page; imports neither PyTorch nor pandas."""
