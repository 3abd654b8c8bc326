"""The HTTP service: knows HTTP, nothing of physics."""
