"""The history of Finstage's tables, one step per file."""
