"""`python -m api` is `nas`."""

from api.cli import main

if __name__ == "__main__":
    main()
