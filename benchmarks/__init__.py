"""What is claimed about speed and size, measured beside others on the machine at hand."""
