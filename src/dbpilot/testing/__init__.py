"""What tests of dbpilot, and of applications that use it, need: private servers of every database it knows."""
