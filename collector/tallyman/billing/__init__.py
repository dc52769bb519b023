"""What is owed, and what may be used: everything that follows from plans and usage together."""
