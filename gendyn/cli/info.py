"""``gendyn info``: what is installed, and what is in a file."""
