"""A Stripe for whole orders, and books of what was asked of them, both written by hand."""
