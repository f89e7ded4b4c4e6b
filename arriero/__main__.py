"""`python -m arriero`: the command, where no `arriero` script is installed."""

from arriero.cli import main

if __name__ == "__main__":
    main()
