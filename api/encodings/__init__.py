"""One file per representation."""
