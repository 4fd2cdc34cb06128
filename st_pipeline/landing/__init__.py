"""Raw files that come, grow and change: which are whole, and which periods they touch."""
