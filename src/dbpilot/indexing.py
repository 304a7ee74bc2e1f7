"""Index advice of one engine: made in the background, kept until the next one, and applied when asked."""
