"""`python -m gplconvex` is the command `gplconvex`."""

from gplconvex.cli import main

if __name__ == "__main__":
    main()
