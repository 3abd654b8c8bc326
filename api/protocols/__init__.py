"""Other people's protocols, for their clients as they are: the same answers as under /v1."""
