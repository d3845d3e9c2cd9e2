"""What the demo and the tests run against: an embedded PostgreSQL and a simulator of Stripe."""
