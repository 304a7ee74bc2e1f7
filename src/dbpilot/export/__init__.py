"""What the pilot tells other systems."""
