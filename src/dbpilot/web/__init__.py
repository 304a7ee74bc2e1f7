"""The pilot over HTTP."""
