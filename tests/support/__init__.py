"""What several tests share: servers, databases, small helpers."""
