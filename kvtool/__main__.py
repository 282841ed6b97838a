"""`python -m kvtool` and the `kvtool` script."""

from kvtool.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
