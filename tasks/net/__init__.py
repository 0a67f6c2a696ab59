"""What rooms share on the network: address guard, retries, HTTP errors."""
