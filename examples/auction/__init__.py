"""A live auction: everyone sees every bid, who is present, and where the others point."""
