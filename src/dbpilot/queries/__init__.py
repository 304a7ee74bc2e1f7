"""Watching statements: listener -> recorder -> worker -> windows -> store."""
