"""Who asks, and what for they may ask. Nothing here knows HTTP."""
