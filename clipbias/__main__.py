"""`python -m clipbias`: the command line, for launchers that start modules."""

from clipbias.cli.app import main

main()
