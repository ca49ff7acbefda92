"""Data sets as they are published: which edition two files are, and how it is read."""
