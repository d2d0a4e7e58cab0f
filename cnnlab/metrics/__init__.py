"""Scores: sums and counts on the host, added up over every example once."""
