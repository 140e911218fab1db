"""A live auction: everyone sees every bid, who is here, and where the others point."""
