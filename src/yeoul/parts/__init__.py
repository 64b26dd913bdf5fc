"""What the settings decide: each part of the server as it is made from them. `parts.py` has them all, `app.py` puts them
together."""
