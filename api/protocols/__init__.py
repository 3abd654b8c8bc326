"""Other people's protocols over the same models; their clients work unchanged."""
