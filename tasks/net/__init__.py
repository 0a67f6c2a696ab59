"""What rooms share on the network: retries, the address guard, HTTP errors."""
