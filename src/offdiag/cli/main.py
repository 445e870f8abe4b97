"""Parse the command, call it, and turn what a user can mend into one sentence."""


def main() -> None:
    """Entry point of the command `offdiag`."""
