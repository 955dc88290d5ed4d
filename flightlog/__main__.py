"""`python -m flightlog` is the command `flightlog`."""

from __future__ import annotations

from flightlog.cli import main

if __name__ == "__main__":
    main()
