"""`python -m yeoul`."""

from .cli import main

main()
