"""Item encoders: from items to vectors, looked up or computed."""
