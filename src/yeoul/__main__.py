"""`python -m yeoul`."""

from .cli.main import main

main()
