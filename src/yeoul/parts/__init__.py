"""What the settings decide: each part of the server as it is made from them. `parts.py` has them all, and `app.py` puts
them together."""
