"""Failovers at random: a standby that heard less than the primary did takes over in the middle of everything."""
