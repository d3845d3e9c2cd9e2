"""A runnable specification: one reversal, two workers, a database that may fail over, and Stripe."""
