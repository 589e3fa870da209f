"""The size of a fractal: 16 rows × 32 bytes. Source: facts/sparse_codec.md 1."""

ROWS = 16
COLUMNS = 32
FRACTAL_BYTES = ROWS * COLUMNS


def round_up(value: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is >= `value`; 0 for unit 0."""
    return -(-value // unit) * unit if unit else 0


def fractals(n: int, k: int) -> tuple[int, int]:
    """Return (n1, k1): how many fractals cover n rows and k byte columns."""
    return -(-n // ROWS), -(-k // COLUMNS)
