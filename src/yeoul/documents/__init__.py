"""The documents that `/ask` answers from: read, split into passages, indexed and searched."""
