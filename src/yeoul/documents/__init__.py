"""Documents that can be asked about: read, cut into passages, indexed and searched."""
