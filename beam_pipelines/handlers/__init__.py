"""Encoders: from the text or picture of an item to a vector."""
