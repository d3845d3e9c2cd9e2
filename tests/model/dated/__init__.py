"""A row, its database and Stripe with real dates: what the SQL functions must do, step by step, written by hand."""
