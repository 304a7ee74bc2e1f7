"""What is remembered about statements, and where."""
