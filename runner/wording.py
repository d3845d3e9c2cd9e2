"""How numbers are told to people."""


def counted(number: int, noun: str) -> str:
    """So many of something that takes an s: 1 transfer, 0 transfers, 2 transfers."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
