"""Who may ask what, and how often: keys, tokens, scopes, quotas, and the guard that stands before every route."""
