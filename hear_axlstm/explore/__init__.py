"""What is in a collection: which sounds are like a given one, a map of all, what is there twice, and what is odd."""
