"""What the settings decide: each part of the server as it is made from them. `app.py` puts them together."""
