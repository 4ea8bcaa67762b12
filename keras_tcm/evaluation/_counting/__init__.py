"""From pairs to counts."""
