"""Everything goes wrong at once, at random and repeatably; then nothing does, and the books are compared."""
