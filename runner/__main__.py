"""`python -m runner` is `seller-transfers`."""

from runner.cli import main

if __name__ == "__main__":
    main()
