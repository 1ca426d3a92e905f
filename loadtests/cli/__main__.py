"""`python -m loadtests.cli` is `tickstorm`."""

from loadtests.cli import main

main()
