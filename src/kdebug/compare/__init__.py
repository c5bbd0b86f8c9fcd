"""What differs: between then and now, between one replica and the others."""
