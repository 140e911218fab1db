"""What puts load on servers: the load generator in C, and clients that drop and come back."""
