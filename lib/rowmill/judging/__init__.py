"""Whether the candidate beats what serves now."""
