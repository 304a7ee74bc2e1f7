"""The ``dbpilot`` command: data on stdout, everything said about it on stderr, the outcome in the exit code."""
