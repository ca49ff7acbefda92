"""What each method is made of."""
