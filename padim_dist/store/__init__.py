"""Results out: the workspace's layout, receipts, manifests, moments, models, runs."""
