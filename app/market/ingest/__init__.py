"""Files of the user's own: read, checked row by row, and written in batches that may be repeated."""
