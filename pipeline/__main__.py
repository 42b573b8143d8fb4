"""`python -m pipeline` is the command `watchkeeper`."""

from pipeline.cli import main

main()
