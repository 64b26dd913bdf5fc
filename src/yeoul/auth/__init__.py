"""Authentication: from a credential to an identity, and what it may do. Nothing here knows HTTP."""
