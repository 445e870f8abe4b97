"""`python -m offdiag` is the command `offdiag`."""

from offdiag.cli.main import main

if __name__ == "__main__":
    main()
