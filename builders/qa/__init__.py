"""Questions on videos: annotation files -> samples, a share of them inverted."""
