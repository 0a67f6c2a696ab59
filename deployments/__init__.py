"""What runs Stemwright for others: deployments for Prefect, and the separation endpoint."""
