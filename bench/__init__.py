"""The benchmark: `python -m bench` from the project's root. README.md beside this file says how it measures."""
