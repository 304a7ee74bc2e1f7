"""What the pilot answers: plain values, one file per question."""
