"""Runs the Stripe calls that the database decides on, and reports what Stripe said."""
